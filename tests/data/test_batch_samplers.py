from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastreid_uda  # noqa: F401
from fastreid_uda.data.samplers import IdentityBatchSampler, RandomBatchSampler, build_batch_sampler
from fastreid_uda.errors import UserError


def sampler(targets, cameras=None, **changes):
    options = {"batch_size": 16, "images_per_identity": 4, "num_batches": 6, "seed": 0}
    return IdentityBatchSampler(np.array(targets), cameras, **(options | changes))


def indices(batch):
    return [index for index, _ in batch]


@settings(deadline=2000, max_examples=50)
@given(
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    seed=st.integers(0, 100),
    cameras=st.integers(1, 3),
)
def test_identity_batches__are_groups_of_k_of_different_identities(counts, seed, cameras):
    rng = np.random.default_rng(seed)
    targets = rng.permutation([*np.repeat(np.arange(len(counts)), counts), -1, -1])
    camera_ids = rng.integers(cameras, size=len(targets))
    batches = list(sampler(targets, camera_ids, seed=seed))
    assert len(batches) == 6
    for batch in batches:
        labels = targets[indices(batch)].reshape(-1, 4)
        assert labels.min() >= 0
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0])) == len(labels) == min(4, len(counts))


def test_identity_batches__prefer_other_cameras():
    targets = np.repeat([0, 1], 8)
    cameras = np.tile([0, 0, 0, 0, 0, 1, 2, 3], 2)
    for batch in sampler(targets, cameras, num_batches=20):
        for group in np.array(indices(batch)).reshape(-1, 4):
            first, *rest = cameras[group]
            assert first not in rest


def test_identity_batches__single_camera_uses_its_other_images():
    for batch in sampler(np.repeat([0, 1], 4), np.zeros(8, int)):
        for group in np.array(indices(batch)).reshape(-1, 4):
            assert len(set(group)) == 4


def test_identity_batches__one_image_is_repeated():
    (batch, *_) = sampler([0, 1, 1, 1, 1])
    assert indices(batch).count(0) == 4


@pytest.mark.parametrize("classes", [2, 3, 15])
def test_identity_batches__fewer_identities_than_p_end(classes):
    targets = np.repeat(np.arange(classes), 4)
    batches = list(sampler(targets, batch_size=64, num_batches=3))
    assert [len(batch) for batch in batches] == [4 * classes] * 3


def test_identity_batches__repeat_with_the_seed_and_differ_without():
    targets = np.repeat(np.arange(9), 5)
    assert list(sampler(targets)) == list(sampler(targets))
    assert list(sampler(targets)) != list(sampler(targets, seed=1))


def test_identity_batches__visit_every_identity_in_a_pass():
    targets = np.repeat(np.arange(8), 4)
    first, second, *_ = sampler(targets)
    assert set(targets[indices(first) + indices(second)]) == set(range(8))


@pytest.mark.parametrize("identities,world_size", [(9, 2), (3, 5), (9, 16)])
def test_batches__of_all_ranks_are_those_of_one(identities, world_size):
    targets = np.repeat(np.arange(identities), 5)
    random = {"batch_size": 16, "num_batches": 6, "seed": 0}
    for make in (sampler, lambda targets, **ranks: RandomBatchSampler(targets, **random, **ranks)):
        whole = list(make(targets))
        shares = [list(make(targets, rank=r, world_size=world_size)) for r in range(world_size)]
        assert whole == [list(chain(*parts)) for parts in zip(*shares, strict=True)]
        sizes = {len(batch) for share in shares for batch in share}
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1


def test_batches__smaller_than_the_number_of_processes_are_refused():
    with pytest.raises(UserError, match="There are 8 images for 9 processes; take fewer"):
        sampler(np.repeat(np.arange(2), 5), world_size=9)


def test_identity_batches__do_not_touch_the_global_generator():
    np.random.seed(7)
    state = np.random.get_state()[1].copy()
    list(sampler(np.repeat(np.arange(9), 5)))
    assert (np.random.get_state()[1] == state).all()


def test_random_batches__pass_over_all_kept_images():
    targets = np.array([0, 1, -1, 2, 3, -1, 4, 5, 6, 7])
    batches = RandomBatchSampler(targets, batch_size=4, num_batches=4, seed=0)
    drawn = [index for batch in batches for index, _ in batch]
    assert sorted(drawn[:8]) == sorted(drawn[8:]) == [0, 1, 3, 4, 6, 7, 8, 9]


def test_random_batches__fewer_images_than_a_batch_end():
    (batch,) = RandomBatchSampler(np.array([0, 1, -1]), batch_size=8, num_batches=1, seed=0)
    assert len(batch) == 8 and set(indices(batch)) == {0, 1}


def test_build__unknown_name_lists_the_known():
    with pytest.raises(UserError, match=r"DATALOADER\.SAMPLER_TRAIN is 'Foo'.*TrainingSampler"):
        build_batch_sampler("Foo", np.zeros(4), None, images_per_identity=4)
