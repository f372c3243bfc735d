import numpy as np
import pytest

from fastreid_uda import compiled
from fastreid_uda.labeling import blockwise, pairwise
from fastreid_uda.labeling.blockwise import BlockwiseDistances, blockwise_memory
from fastreid_uda.labeling.types import OUTLIER
from tests.labeling.test_distances import (
    all_distances,
    check_graph,
    naive_smallest_mean,
    unit_rows,
    with_equal_and_zero_rows,
)

CASES = [(metric, size) for metric in ("cosine", "euclidean") for size in (5, 64)]


def answers(distances):
    """Everything that can be asked."""
    camera_ids = np.arange(distances.num_rows) % 4
    labels = np.arange(distances.num_rows) % 6 - 1
    graph = distances.within(1.2)
    return [
        all_distances(distances),
        graph.indptr,
        graph.indices,
        graph.data,
        *distances.smallest_mean(0.1, camera_ids, zeros=True),
        *distances.smallest_mean(0.3),
        distances.radii(np.array([2, 5])),
        np.stack(distances.class_sums(labels)),
    ]


@pytest.mark.parametrize(("metric", "size"), CASES)
def test_kernels__equal_numpy(monkeypatch, metric, size):
    features = np.concatenate([with_equal_and_zero_rows(), unit_rows(300, 24, seed=4)])
    results = []
    for switch in "10":
        monkeypatch.setenv(compiled.SWITCH, switch)
        results.append(answers(BlockwiseDistances(features, metric, size)))
    *same, sums = range(len(results[0]))
    for number in same:
        np.testing.assert_array_equal(results[0][number], results[1][number])
    np.testing.assert_allclose(results[0][sums], results[1][sums], rtol=1e-12)


@pytest.mark.parametrize(("metric", "size"), CASES)
def test_threads__change_no_bit(monkeypatch, metric, size):
    results = []
    for threads in "13":
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        results.append(answers(BlockwiseDistances(unit_rows(600, 24), metric, 10 * size)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("switch", ["1", "0"])
@pytest.mark.parametrize("fraction", [1e-9, 0.0012, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("zeros", [True, False])
def test_smallest_mean__counted_twice_equals_naive_sort(monkeypatch, switch, fraction, zeros):
    monkeypatch.setenv(compiled.SWITCH, switch)
    monkeypatch.setattr(pairwise, "MOST_HELD", 0)
    camera_ids = np.random.default_rng(1).integers(3, size=30)
    for metric, size in CASES:
        distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, size)
        full = all_distances(distances).astype(np.float64)
        for cameras in (None, camera_ids):
            mean, count = distances.smallest_mean(fraction, cameras, zeros=zeros)
            expected, expected_count = naive_smallest_mean(full, fraction, cameras, zeros)
            assert (count, mean) == (expected_count, pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize(("metric", "size"), CASES)
def test_count_near__keeps_the_pairs_for_within(monkeypatch, metric, size):
    distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, size)
    full = all_distances(distances)
    near = distances.count_near(1.1)
    monkeypatch.setattr(distances, "_upper_blocks", None)  # no block is computed any more
    assert distances.count_near(1.1) == near
    for radius in (0.0, 0.7, 1.1):
        check_graph(distances.within(radius), full, radius)
        upper = full[np.triu_indices(len(full), 1)].astype(np.float64)
        expected = (abs(upper - radius) <= 1e-3).sum()
        if radius < 1.1:
            assert distances.count_near(radius, 1e-3) == expected


def test_count_near__too_many_pairs_to_keep_are_counted_all_the_same(monkeypatch):
    monkeypatch.setattr(blockwise, "_MOST_REMEMBERED", 3)
    distances = BlockwiseDistances(with_equal_and_zero_rows(), "euclidean", 7)
    full = all_distances(distances)
    upper = full[np.triu_indices(len(full), 1)].astype(np.float64)
    assert distances.count_near(1.1, 0.05) == (abs(upper - 1.1) <= 0.05).sum() > 0
    check_graph(distances.within(1.1), full, 1.1)


def test_within__a_single_image_and_no_pair():
    assert BlockwiseDistances(unit_rows(1, 8), "cosine").within(2.0).toarray().tolist() == [[0]]
    graph = BlockwiseDistances(unit_rows(9, 8), "euclidean").within(1e-3)
    assert graph.indices.tolist() == list(range(9)) and not graph.data.any()


def test_class_sums__of_a_subset_with_equal_rows():
    features = with_equal_and_zero_rows()
    labels = np.where(np.arange(30) % 3 == 0, OUTLIER, np.arange(30) % 2)
    full = all_distances(BlockwiseDistances(features, "euclidean")).astype(np.float64)
    own, everyone = BlockwiseDistances(features, "euclidean", 4).class_sums(labels)
    kept = labels != OUTLIER
    same = (labels[:, None] == labels) & kept
    np.testing.assert_allclose(own, np.where(kept, (full * same).sum(axis=1), 0), atol=1e-5)
    np.testing.assert_allclose(everyone, np.where(kept, full[:, kept].sum(axis=1), 0), atol=1e-5)


def test_blockwise_memory__is_bounded_but_for_the_rows():
    assert blockwise_memory(10**5, 2048) < 0.3e9
    assert blockwise_memory(10**6, 2048) - blockwise_memory(10**5, 2048) == 64 * 900_000
