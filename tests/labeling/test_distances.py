import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.distances import (
    DISTANCES,
    BlockwiseDistances,
    Cosine,
    Euclidean,
    Jaccard,
    SparseDistances,
)


def naive_distances(x, metric):
    """One pair at a time, in float64."""
    x = x.astype(np.float64)
    result = np.zeros((len(x), len(x)))
    for i, j in np.ndindex(result.shape):
        if metric == "euclidean":
            result[i, j] = np.sqrt(((x[i] - x[j]) ** 2).sum())
        elif i != j:
            lengths = np.sqrt((x[i] @ x[i]) * (x[j] @ x[j]))
            result[i, j] = 1 - x[i] @ x[j] / (lengths or 1)
    return result


def naive_smallest_mean(matrix, fraction):
    """methods.md 0.9 with at least one pair."""
    upper = sorted(matrix[i, j] for i in range(len(matrix)) for j in range(i + 1, len(matrix)))
    upper = [d for d in upper if d > 0]
    count = max(1, round(fraction * len(upper)))
    return sum(upper[:count]) / count, count


def unit_rows(num_rows, dimension, seed=0):
    rng = np.random.default_rng(seed)
    return normalize_rows(rng.normal(size=(num_rows, dimension)).astype(np.float32))


def with_equal_and_zero_rows(num_rows=30):
    features = unit_rows(num_rows, 24)
    features[[2, 11, 29]] = features[5]
    features[[0, 17]] = 0
    return features


def random_sparse(num_rows=40, share=0.2, seed=0):
    """A SparseDistances with stored zeros off the diagonal, and the same as a dense array."""
    rng = np.random.default_rng(seed)
    full = np.where(rng.random((num_rows,) * 2) < share, rng.random((num_rows,) * 2), 1)
    full = np.triu(full, 1).astype(np.float32)
    full[0, 1] = full[3, 7] = 0
    full = full + full.T
    np.fill_diagonal(full, 0)
    i, j = np.nonzero(full < 1)
    return SparseDistances(csr_matrix((full[i, j], (i, j)))), full


def all_distances(distances):
    blocks = list(distances.row_blocks())
    assert [start for start, _, _ in blocks[1:]] == [stop for _, stop, _ in blocks[:-1]]
    return np.vstack([block for _, _, block in blocks])


def check_graph(graph, full, radius):
    """The graph holds the pairs within the radius of a dense array, zeros and diagonal too."""
    stored = np.zeros(full.shape, dtype=bool)
    entries = graph.tocoo()
    stored[entries.row, entries.col] = True
    np.testing.assert_array_equal(stored, full <= np.float32(radius))
    np.testing.assert_array_equal(entries.data, full[entries.row, entries.col])
    assert graph.nnz == stored.sum() and stored.diagonal().all()
    assert graph.has_sorted_indices and graph.dtype == np.float32


NAMES = ["Cosine", "Euclidean", "Jaccard"]
# Blocks of 5 rows have edges inside the data; blocks of 64 do not.
BLOCKWISE = [(metric, size) for metric in ("cosine", "euclidean") for size in (1, 5, 64)]


@pytest.mark.parametrize(("metric", "size"), BLOCKWISE)
def test_blockwise__row_blocks_equal_naive_loops(metric, size):
    features = with_equal_and_zero_rows()
    got = all_distances(BlockwiseDistances(features, metric, size))
    np.testing.assert_allclose(got, naive_distances(features, metric), atol=1e-6)
    assert got.dtype == np.float32
    assert (got == got.T).all() and (got.diagonal() == 0).all() and (got >= 0).all()


@pytest.mark.parametrize(("metric", "size"), BLOCKWISE)
@pytest.mark.parametrize("radius", [0.0, 0.7, 1.0, 1.3, 3.0])
def test_blockwise__within_equals_dense_comparison(metric, size, radius):
    distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, block_rows=size)
    check_graph(distances.within(radius), all_distances(distances), radius)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_blockwise__within_a_radius_that_is_a_distance(metric):
    distances = BlockwiseDistances(unit_rows(90, 300), metric, block_rows=32)
    full = all_distances(distances)
    for radius in full[0, 1:10]:
        check_graph(distances.within(float(radius)), full, radius)


def test_blockwise__equal_rows_are_at_exactly_zero():
    features = np.repeat(unit_rows(1, 777), 40, axis=0)
    for metric in ("cosine", "euclidean"):
        assert (all_distances(BlockwiseDistances(features, metric, block_rows=7)) == 0).all()


def test_euclidean__toy():
    features = np.array([[0, 0], [3, 4]], dtype=np.float32)
    assert all_distances(Euclidean().measure(features)).tolist() == [[0, 5], [5, 0]]


def test_cosine__zero_rows_are_alone():
    features = np.array([[1, 0], [0, 0], [0, 0], [0, 1]], dtype=np.float32)
    assert (all_distances(Cosine().measure(features)) == 1 - np.eye(4)).all()


def test_cosine__length_of_rows_does_not_matter():
    features = unit_rows(20, 6) * np.arange(1, 21, dtype=np.float32)[:, None]
    got = all_distances(Cosine().measure(features))
    np.testing.assert_allclose(got, naive_distances(features, "cosine"), atol=1e-6)


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.999])
def test_sparse__within_equals_dense_comparison(radius):
    distances, full = random_sparse()
    check_graph(distances.within(radius), full, radius)


def test_sparse__within_includes_a_distance_equal_to_the_radius():
    matrix = csr_matrix((np.float32([0, 0.6, 0.6, 0]), ([0, 0, 1, 1], [0, 1, 0, 1])))
    # As float64 the float32 nearest to 0.6 is above 0.6.
    assert SparseDistances(matrix).within(0.6).nnz == 4


@pytest.mark.parametrize("radius", [1.0, 1.5])
def test_sparse__within_refuses_a_radius_that_reaches_all_pairs(radius):
    distances, _ = random_sparse()
    with pytest.raises(UserError, match=rf"UDA.CLUSTER.EPS is {radius}"):
        distances.within(radius)


def test_sparse__row_blocks_fill_what_is_missing():
    distances, full = random_sparse()
    np.testing.assert_array_equal(all_distances(distances), full)
    assert distances.fill == 1 and distances.num_rows == 40


def test_sparse__needs_the_diagonal():
    with pytest.raises(ValueError, match="diagonal"):
        SparseDistances(csr_matrix(np.array([[0, 0.5], [0.5, 0]], dtype=np.float32)))


def test_sparse__unsorted_indices_are_sorted_in_a_copy():
    matrix = csr_matrix((np.float32([0.5, 0, 0, 0.5]), [1, 0, 1, 0], [0, 2, 4]), shape=(2, 2))
    graph = SparseDistances(matrix).within(0.6)
    assert graph.indices.tolist() == [0, 1, 0, 1] and graph.data.tolist() == [0, 0.5, 0.5, 0]
    assert matrix.indices.tolist() == [1, 0, 1, 0]


# 0.9 reaches pairs that the sparse matrix does not store: their distance is 1.
@pytest.mark.parametrize("fraction", [1e-9, 1.6e-3, 0.1, 0.9, 1.0])
def test_smallest_mean__equals_naive_sort(fraction):
    distances, full = random_sparse()
    mean, count = distances.smallest_mean(fraction)
    expected, expected_count = naive_smallest_mean(full.astype(np.float64), fraction)
    assert (count, mean) == (expected_count, pytest.approx(expected, rel=1e-12))
    for metric, size in BLOCKWISE:
        distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, block_rows=size)
        mean, count = distances.smallest_mean(fraction)
        full = all_distances(distances).astype(np.float64)
        expected, expected_count = naive_smallest_mean(full, fraction)
        assert (count, mean) == (expected_count, pytest.approx(expected, rel=1e-12))


def test_smallest_mean__nothing_stored():
    own = np.arange(3)
    diagonal = csr_matrix((np.zeros(3, np.float32), (own, own)))
    assert SparseDistances(diagonal).smallest_mean(0.5) == (1.0, 2)


@pytest.mark.parametrize("num_rows", [1, 4])
def test_smallest_mean__no_distance_above_zero(num_rows):
    same = np.ones((num_rows, 2), dtype=np.float32)
    for distances in (
        BlockwiseDistances(same, "euclidean"),
        Jaccard().measure(normalize_rows(same)),
    ):
        with pytest.raises(UserError, match=rf"{num_rows} target images .*UDA.CLUSTER.EPS"):
            distances.smallest_mean(0.1)


@pytest.mark.parametrize("radius", [0.0, 0.4, 1.0])
def test_count_near__equals_naive_count(radius):
    sparse, _ = random_sparse()
    features = with_equal_and_zero_rows()
    blockwise = [BlockwiseDistances(features, metric, block_rows=s) for metric, s in BLOCKWISE]
    for distances in [sparse, *blockwise]:
        upper = all_distances(distances)[np.triu_indices(distances.num_rows, 1)]
        expected = sum(abs(float(d) - radius) <= 0.05 for d in upper)
        assert distances.count_near(radius, tolerance=0.05) == expected


def test_count_near__structural_tie_of_jaccard():
    matrix = csr_matrix((np.float32([0, 0.5, 0.5, 0, 0]), ([0, 0, 1, 1, 2], [0, 1, 0, 1, 2])))
    assert SparseDistances(matrix).count_near(0.5) == 1
    assert SparseDistances(matrix).count_near(0.6) == 0
    assert SparseDistances(matrix).count_near(1.0) == 2


def test_distances__known_names_and_defaults():
    assert list(DISTANCES) == NAMES
    assert DISTANCES.defaults("Jaccard") == {"k1": 30, "k2": 6, "backend": "numpy"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_rows", [1, 5, 25, 26, 29, 30])
def test_distances__small_sets(name, num_rows):
    features = unit_rows(num_rows, 8)
    before = features.copy()
    full = all_distances(DISTANCES.build(name).measure(features))
    assert full.shape == (num_rows, num_rows)
    assert (full.diagonal() == 0).all() and (full == full.T).all()
    assert (features == before).all()


@pytest.mark.parametrize("name", NAMES)
def test_distances__no_rows(name):
    with pytest.raises(UserError, match="0 images"):
        DISTANCES.build(name).measure(unit_rows(0, 8))


@pytest.mark.parametrize("name", NAMES)
def test_distances__follow_a_permutation(name):
    features, order = unit_rows(60, 8), np.random.default_rng(1).permutation(60)
    full = all_distances(DISTANCES.build(name).measure(features))
    permuted = all_distances(DISTANCES.build(name).measure(features[order]))
    np.testing.assert_allclose(permuted, full[np.ix_(order, order)], atol=1e-6)


@pytest.mark.parametrize(("key", "arguments"), [("K1", {"k1": 0}), ("K2", {"k2": -1})])
def test_jaccard__refuses_no_neighbors(key, arguments):
    with pytest.raises(UserError, match=rf"UDA.DISTANCE.JACCARD.{key} is "):
        Jaccard(**arguments)
