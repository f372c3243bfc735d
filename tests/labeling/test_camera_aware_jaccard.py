import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.camera_aware_jaccard import camera_aware_jaccard, neighbors_by_camera
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.clustering import DBSCAN
from fastreid_uda.labeling.distances import DISTANCES, CAJaccard, Jaccard
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.types import FeatureSet
from tests import processes
from tests.helpers import ROOT, make_features
from tests.labeling.test_jaccard import clustered, dense


def naive_lists(x, cameras):
    """Per image: the images of its camera and those of the others, by (distance, number)."""
    squared = ((x[:, None].astype(float) - x[None]) ** 2).sum(-1)
    near = [sorted(range(len(x)), key=lambda j: (squared[i, j], j)) for i in range(len(x))]
    intra = [[j for j in near[i] if cameras[j] == cameras[i]] for i in range(len(x))]
    inter = [[j for j in near[i] if cameras[j] != cameras[i]] for i in range(len(x))]
    return intra, inter, squared


def naive_ca_jaccard(x, cameras, k1, k2):
    """The definition, one image at a time, in float64."""
    intra, inter, squared = naive_lists(x, cameras)
    n = len(x)
    v = np.zeros((n, n))
    for i in range(n):
        members = {j for j in intra[i][: k1[0] + 1] if i in intra[j][: k1[0] + 1]}
        members |= {j for j in inter[i][: k1[1] + 1] if i in inter[j][: k1[1] + 1]}
        for j in members:
            v[i, j] = np.exp(-squared[i, j])
        v[i] /= max(v[i].sum(), 1e-300)
    v = np.array([v[intra[i][: k2[0]] + inter[i][: k2[1]]].mean(axis=0) for i in range(n)])
    s = np.minimum(v[:, None], v[None]).sum(-1)
    distances = np.maximum(1 - s / (2 - s), 0)
    np.fill_diagonal(distances, 0)
    return distances


def cameras_of(layout, num_rows, seed=0):
    """Camera ids: even, with gaps in the numbers; one large and small ones; images alone."""
    rng = np.random.default_rng(seed)
    if layout == "even":
        return rng.choice([7, -2, 40], num_rows)
    if layout == "uneven":
        return np.where(rng.random(num_rows) < 0.8, 3, rng.integers(0, 3, num_rows))
    return np.where(np.arange(num_rows) % 10 == 4, np.arange(num_rows), -1)  # "alone"


@pytest.mark.parametrize("layout", ["even", "uneven", "alone"])
@pytest.mark.parametrize("num_rows", [6, 25, 60, 110])
@pytest.mark.parametrize(
    ("k1", "k2"),
    [((5, 20), (2, 4)), ((5, 20), (3, 3)), ((0, 1), (1, 0)), ((2, 3), (6, 9)), ((40, 90), (2, 0))],
)
def test_camera_aware_jaccard__equals_naive_loops(layout, num_rows, k1, k2):
    features, cameras = clustered(num_rows, 10), cameras_of(layout, num_rows)
    got = camera_aware_jaccard(features, cameras, k1=k1, k2=k2)
    expected = naive_ca_jaccard(features, cameras, k1, k2)
    np.testing.assert_allclose(dense(got), expected, atol=2e-6)
    assert num_rows < 60 or got.nnz > num_rows  # some pairs share neighbours


@pytest.mark.parametrize("backend", ["numpy", "faiss", "torch"])
@pytest.mark.parametrize("layout", ["even", "uneven", "alone"])
def test_neighbors_by_camera__equals_naive_sort(layout, backend):
    pytest.importorskip(backend)
    features, cameras = clustered(90, 10), cameras_of(layout, 90)
    lists = neighbors_by_camera(features, cameras, 6, 70, backend=backend)
    *naive, squared = naive_lists(features, cameras)
    for (ranks, values), expected, k in zip(lists, naive, (6, 70), strict=True):
        assert ranks.shape == values.shape == (90, k)
        for i in range(90):
            wanted = expected[i][:k]
            found = ranks[i, : len(wanted)].tolist()
            assert found == wanted
            np.testing.assert_allclose(values[i, : len(wanted)], squared[i, wanted], atol=2e-6)
            assert (ranks[i, len(wanted) :] == -1).all()
            assert np.isinf(values[i, len(wanted) :]).all()


# Small integers: products are exact in float32, and equal distances are everywhere.
@settings(max_examples=60, deadline=None)
@given(
    features=st.integers(2, 24).flatmap(
        lambda n: arrays(np.float32, (n, 2), elements=st.integers(-2, 2).map(float))
    ),
    cameras=st.lists(st.integers(0, 2), min_size=24, max_size=24),
    k=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_neighbors_by_camera__equal_distances_are_ordered_by_number(features, cameras, k):
    cameras = np.array(cameras[: len(features)])
    cameras[:2] = 0, 1
    intra, inter, _ = naive_lists(features, cameras)
    for (ranks, _), expected, most in zip(
        neighbors_by_camera(features, cameras, *k), (intra, inter), k, strict=True
    ):
        for found, wanted in zip(ranks.tolist(), expected, strict=True):
            assert [n for n in found if n >= 0] == wanted[:most]


# Features on a coarse grid: equal rows, zero rows and equal distances are frequent.
@settings(max_examples=60, deadline=None)
@given(
    features=st.integers(2, 30).flatmap(
        lambda n: arrays(np.float32, (n, 3), elements=st.integers(-1, 1).map(float))
    ),
    cameras=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    k1=st.tuples(st.integers(0, 6), st.integers(1, 9)),
    k2=st.tuples(st.integers(1, 4), st.integers(0, 4)),
)
def test_camera_aware_jaccard__is_a_symmetric_distance(features, cameras, k1, k2):
    features, cameras = normalize_rows(features), np.array(cameras[: len(features)])
    cameras[:2] = 0, 1
    got = camera_aware_jaccard(features, cameras, k1=k1, k2=k2)
    assert (got != got.T).nnz == 0
    assert (got.diagonal() == 0).all()
    assert (got.data >= 0).all() and (got.data < 1).all()
    assert got.has_sorted_indices and got.dtype == np.float32
    rows = np.repeat(np.arange(len(features)), np.diff(got.indptr))
    assert np.count_nonzero(rows == got.indices) == len(features)  # stored, though 0


def test_camera_aware_jaccard__identical_images_of_a_camera_are_at_zero():
    features, cameras = clustered(60, 8), cameras_of("even", 60)
    same = np.flatnonzero(cameras == cameras[0])[:3]
    features[same] = features[same[0]]
    got = dense(camera_aware_jaccard(features, cameras, k1=(5, 20), k2=(2, 4)))
    assert got[np.ix_(same, same)].max() < 1e-6


@pytest.mark.parametrize("length", [1.0, 50.0])
def test_camera_aware_jaccard__more_identical_images_than_places(length):
    # Images 6 to 20 of the first camera are in no list, their own included.
    features, cameras = length * clustered(60, 8), np.arange(60) // 30
    features[:20] = features[0]
    got = camera_aware_jaccard(features, cameras, k1=(5, 20), k2=(2, 4))
    assert np.isfinite(got.data).all()
    assert dense(got)[:20, :20].max() < 1e-6


def test_camera_aware_jaccard__all_images_equal():
    features = np.full((12, 4), 0.5, dtype=np.float32)
    got = camera_aware_jaccard(features, np.arange(12) % 2, k1=(20, 20), k2=(3, 3))
    assert dense(got).max() < 1e-6


def test_camera_aware_jaccard__follows_a_permutation_and_new_names_of_the_cameras():
    features, cameras = clustered(80, 12), cameras_of("uneven", 80)
    order = np.random.default_rng(1).permutation(80)
    expected = dense(camera_aware_jaccard(features, cameras, k1=(5, 20), k2=(2, 4)))
    got = camera_aware_jaccard(features[order], 9 - cameras[order], k1=(5, 20), k2=(2, 4))
    np.testing.assert_allclose(dense(got), expected[np.ix_(order, order)], atol=1e-6)


def test_ca_jaccard__first_round_has_its_own_averages():
    features, cameras = clustered(70, 10), cameras_of("even", 70)
    both = {
        k2: dense(camera_aware_jaccard(features, cameras, k1=(5, 20), k2=k2))
        for k2 in ((3, 3), (2, 4))
    }
    assert (both[3, 3] != both[2, 4]).any()

    def measured(round_index, **keys):
        return dense(CAJaccard(**keys).measure(features, cameras, round_index).within(0.9999999))

    assert (measured(0) == both[3, 3]).all()
    assert (measured(1) == both[2, 4]).all()
    assert (measured(0, k2_first=0) == both[2, 4]).all()


def test_ca_jaccard__faiss_backend():
    pytest.importorskip("faiss")
    features, cameras = clustered(80, 12), cameras_of("uneven", 80)
    first, second = (
        dense(CAJaccard(backend=name).measure(features, cameras).within(0.9999999))
        for name in ("numpy", "faiss")
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_ca_jaccard__leaves_its_input_unchanged():
    features, cameras = clustered(40, 8), cameras_of("even", 40)
    before = features.copy(), cameras.copy()
    CAJaccard().measure(features, cameras)
    assert (features == before[0]).all() and (cameras == before[1]).all()


@pytest.mark.parametrize("cameras", [None, np.zeros(20, np.int64)], ids=["unknown", "one"])
def test_ca_jaccard__needs_two_cameras(cameras):
    features = FeatureSet({"global": clustered(20, 8)}, cameras)
    labeler = PseudoLabeler(distance=CAJaccard(), eps=FixedEps(0.6), clusterer=DBSCAN())
    for refuse in (
        lambda: CAJaccard().measure(features.views["global"], cameras),
        lambda: labeler.check_cameras(cameras),
        lambda: labeler(features),
    ):
        with pytest.raises(UserError, match=r"UDA\.DISTANCE\.NAME is CAJaccard.*set it to Jaccard"):
            refuse()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"k1_intra": -1}, "K1_INTRA is -1, but must be at least 0"),
        ({"k1_inter": 0}, "K1_INTER is 0, but must be at least 1"),
        ({"k2_intra": 0}, "K2_INTRA is 0, but must be at least 1"),
        ({"k2_inter": -1}, "K2_INTER is -1, but must be at least 0"),
        ({"k2_first": -3}, "K2_FIRST is -3, but must be at least 0"),
        (
            {"backend": "annoy"},
            "BACKEND is 'annoy', but the known names are: auto, faiss, numpy, torch",
        ),
    ],
)
def test_ca_jaccard__refuses_arguments_out_of_range(arguments, sentence):
    with pytest.raises(UserError, match=rf"UDA\.DISTANCE\.CAJACCARD\.{sentence}"):
        CAJaccard(**arguments)


@pytest.mark.parametrize("distance", [Jaccard, CAJaccard])
def test_missing_faiss__is_noticed_with_the_config(monkeypatch, distance):
    monkeypatch.setitem(sys.modules, "faiss", None)
    key = rf"UDA\.DISTANCE\.{distance.__name__.upper()}\.BACKEND is 'faiss'"
    with pytest.raises(UserError, match=rf"{key}, which is not installed.*set it to numpy"):
        distance(backend="faiss")


def test_ca_jaccard__defaults():
    assert DISTANCES.defaults("CAJaccard") == {
        "k1_intra": 5, "k1_inter": 20, "k2_intra": 2, "k2_inter": 4, "k2_first": 3,
        "backend": "auto", "precision": "float32",
    }  # fmt: skip


def test_label_features__labels_with_both_options(tmp_path):
    features, identities = make_features(num_identities=10, images=12, noise=0.2)
    file, out = tmp_path / "features.npz", tmp_path / "labels.npz"
    np.savez(file, **features.views, camera_ids=features.camera_ids, identities=identities)
    for config in ("ca_jaccard", "hdbscan"):
        done = processes.run(
            [ROOT / "tools/label_features.py", file, "--config-file",
             ROOT / f"configs/Synthetic/{config}.yml", "--round", "1", "--out", out],
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["clusters"] >= 5 and report["kept"] >= 60
        assert np.load(out)["labels/global"].shape == (120,)


def test_ca_jaccard__with_a_limit_stores_what_is_within():
    features, cameras = clustered(80, 12), np.arange(80) % 4
    everything = CAJaccard().measure(features, cameras)
    limited = CAJaccard().measure(features, cameras, limit=0.6)
    assert (limited.within(0.6) != everything.within(0.6)).nnz == 0
    assert limited.within(0.6).nnz > 80
    with pytest.raises(ValueError):
        limited.within(0.7)
