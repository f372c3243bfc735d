import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.labeling import jaccard
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.jaccard import (
    expand_sets,
    jaccard_distances,
    k_reciprocal_jaccard,
    reciprocal_sets,
)


def naive_jaccard(x, k1, k2):
    """The definition, step by step, in float64."""
    n = len(x)
    k1 = min(k1, n)
    squared = ((x[:, None].astype(float) - x[None]) ** 2).sum(-1)
    rank = [sorted(range(n), key=lambda j: (squared[i, j], j))[:k1] for i in range(n)]

    def reciprocal(i, k):
        return {j for j in rank[i][: k + 1] if i in rank[j][: k + 1]}

    v = np.zeros((n, n))
    for i in range(n):
        mutual = reciprocal(i, k1)
        members = set(mutual)
        for c in mutual:
            half = reciprocal(c, int(np.around(k1 / 2)))
            if 3 * len(half & mutual) > 2 * len(half):
                members |= half
        for j in members:
            v[i, j] = np.exp(-squared[i, j])
        v[i] /= max(v[i].sum(), 1e-300)
    if k2 != 1:
        v = np.array([v[rank[i][:k2]].mean(axis=0) for i in range(n)])
    s = np.minimum(v[:, None], v[None]).sum(-1)
    distances = np.maximum(1 - s / (2 - s), 0)
    np.fill_diagonal(distances, 0)
    return distances


def dense(matrix):
    """All distances of a sparse result, 1 where nothing is stored."""
    full = np.ones(matrix.shape, dtype=np.float32)
    entries = matrix.tocoo()
    full[entries.row, entries.col] = entries.data
    return full


def clustered(num_rows, dimension, seed=0):
    rng = np.random.default_rng(seed)
    identities = rng.integers(0, max(1, num_rows // 8), num_rows)
    centers = rng.normal(size=(num_rows, dimension))
    features = centers[identities] + 0.6 * rng.normal(size=(num_rows, dimension))
    return normalize_rows(features.astype(np.float32))


@pytest.mark.parametrize("num_rows", [1, 2, 5, 19, 20, 25, 26, 90])
@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (20, 1), (1, 1), (2, 6), (7, 30)])
def test_k_reciprocal_jaccard__equals_naive_loops(num_rows, k1, k2):
    features = clustered(num_rows, 10)
    got = k_reciprocal_jaccard(features, k1, k2)
    np.testing.assert_allclose(dense(got), naive_jaccard(features, k1, k2), atol=2e-6)


@pytest.mark.parametrize("cells", [1, 50, 700])
@pytest.mark.parametrize("pairs", [1, 300])
def test_k_reciprocal_jaccard__does_not_depend_on_block_sizes(monkeypatch, cells, pairs):
    features = clustered(70, 10)
    expected = k_reciprocal_jaccard(features, 15, 4)
    monkeypatch.setattr(jaccard, "_CELLS_AT_A_TIME", cells)
    monkeypatch.setattr(jaccard, "_PAIRS_AT_A_TIME", pairs)
    monkeypatch.setattr(jaccard, "_EXPANSION_ROWS", 9)
    got = k_reciprocal_jaccard(features, 15, 4)
    np.testing.assert_array_equal(dense(got), dense(expected))


# Features on a coarse grid: equal rows, zero rows and equal distances are frequent.
@settings(max_examples=60, deadline=None)
@given(
    features=st.integers(1, 30).flatmap(
        lambda n: arrays(np.float32, (n, 3), elements=st.integers(-1, 1).map(float))
    ),
    k1=st.integers(1, 12),
    k2=st.integers(1, 5),
)
def test_k_reciprocal_jaccard__is_a_symmetric_distance(features, k1, k2):
    features = normalize_rows(features)
    got = k_reciprocal_jaccard(features, k1, k2)
    assert (got != got.T).nnz == 0
    assert (got.diagonal() == 0).all()
    assert (got.data >= 0).all() and (got.data < 1).all()
    assert got.has_sorted_indices and got.dtype == np.float32
    rows = np.repeat(np.arange(len(features)), np.diff(got.indptr))
    assert np.count_nonzero(rows == got.indices) == len(features)  # stored, though 0


@pytest.mark.parametrize("k2", [1, 6])
def test_k_reciprocal_jaccard__all_rows_equal(k2):
    features = np.full((12, 4), 0.5, dtype=np.float32)
    np.testing.assert_array_equal(dense(k_reciprocal_jaccard(features, 20, k2)), np.zeros((12, 12)))


def test_k_reciprocal_jaccard__more_equal_rows_than_k1_fall_together():
    features = clustered(60, 8)
    features[:40] = features[0]
    got = dense(k_reciprocal_jaccard(features, 10, 6))
    assert got[:40, :40].max() < 1e-6


def test_k_reciprocal_jaccard__zero_rows_are_equal_rows_without_nan():
    features = clustered(40, 8)
    features[[3, 17]] = 0
    got = k_reciprocal_jaccard(features, 10, 6)
    # Which other rows are near to them is up to rounding: all are at distance 1.
    assert np.isfinite(got.data).all()
    assert dense(got)[3, 17] < 1e-6


def test_k_reciprocal_jaccard__rows_of_any_length_give_no_nan():
    features = 50 * np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    assert np.isfinite(k_reciprocal_jaccard(features, 10, 6).data).all()


def test_k_reciprocal_jaccard__follows_a_permutation():
    features, order = clustered(80, 12), np.random.default_rng(1).permutation(80)
    got = dense(k_reciprocal_jaccard(features[order], 15, 6))
    expected = dense(k_reciprocal_jaccard(features, 15, 6))[np.ix_(order, order)]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_k_reciprocal_jaccard__faiss_backend():
    pytest.importorskip("faiss")
    features = clustered(80, 12)
    got = dense(k_reciprocal_jaccard(features, 15, 6, backend="faiss"))
    np.testing.assert_allclose(got, dense(k_reciprocal_jaccard(features, 15, 6)), atol=1e-6)


def test_k_reciprocal_jaccard__no_rows():
    with pytest.raises(UserError, match="0 images"):
        k_reciprocal_jaccard(np.empty((0, 4), dtype=np.float32), 20, 6)


def test_reciprocal_sets__toy():
    ranks = np.array([[0, 1], [1, 0], [2, 1]])
    assert reciprocal_sets(ranks, 2).toarray().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert reciprocal_sets(ranks, 0).toarray().tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(("common", "joins"), [(2, False), (3, True)])
def test_expand_sets__exactly_two_thirds_is_not_enough(common, joins):
    # Row 0 has 1..common in its set, of which row 1 shares `common` of its three.
    sets = np.eye(6, dtype=np.int32)
    sets[0, : common + 1] = 1
    half = np.zeros((6, 6), dtype=np.int32)
    half[1, [1, 2, 3]] = 1
    got = expand_sets(csr_matrix(sets), csr_matrix(half))
    assert (got[0, 3] == 1) == joins
    # Four of which three are shared is enough, and brings in the fourth.
    half[1, 4] = 1
    got = expand_sets(csr_matrix(sets), csr_matrix(half))
    assert (got[0, 4] == 1) == joins


def test_expand_sets__integers_decide_as_the_floats_of_fastreid():
    for size in range(1, 2000):
        for common in {2 * size // 3 - 1, 2 * size // 3, 2 * size // 3 + 1}:
            assert (common > 2 / 3 * size) == (3 * common > 2 * size)


def test_jaccard_distances__toy():
    weights = csr_matrix(np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]], dtype=np.float32))
    s = 0.5
    near = 1 - s / (2 - s)
    expected = [[0, near, 1], [near, 0, near], [1, near, 0]]
    np.testing.assert_allclose(dense(jaccard_distances(weights)), expected, atol=1e-7)


def test_jaccard_distances__row_without_weights():
    weights = csr_matrix(np.array([[1, 0], [0, 0]], dtype=np.float32))
    assert dense(jaccard_distances(weights)).tolist() == [[0, 1], [1, 0]]
