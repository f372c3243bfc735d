import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from fastreid_uda import compiled, memory
from fastreid_uda.errors import UserError
from fastreid_uda.labeling import jaccard, jaccard_scipy
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.jaccard import (
    average_weights,
    expand_sets,
    expanded_sets,
    jaccard_distances,
    k_reciprocal_jaccard,
    member_distances,
    memory_needed,
    neighbor_weights,
    reciprocal_sets,
)
from fastreid_uda.labeling.neighbors import nearest_neighbors
from fastreid_uda.labeling.row_distances import pair_distances


@pytest.fixture(params=["compiled", "scipy"])
def path(request, monkeypatch):
    """Everything that is tried goes through the kernels, and through SciPy."""
    switch(monkeypatch, request.param)


def switch(monkeypatch, path):
    monkeypatch.setenv(compiled.SWITCH, "1")
    if path == "compiled" and not compiled.available():
        pytest.skip("without Numba")
    monkeypatch.setenv(compiled.SWITCH, "1" if path == "compiled" else "0")


def same_bits(first, second):
    """Equal sparse matrices, in structure, order and type too."""
    parts = zip(
        (first.indptr, first.indices, first.data),
        (second.indptr, second.indices, second.data),
        strict=True,
    )
    return first.dtype == second.dtype and all(np.array_equal(a, b) for a, b in parts)


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
@pytest.mark.usefixtures("path")
def test_k_reciprocal_jaccard__equals_naive_loops(num_rows, k1, k2):
    features = clustered(num_rows, 10)
    got = k_reciprocal_jaccard(features, k1, k2)
    np.testing.assert_allclose(dense(got), naive_jaccard(features, k1, k2), atol=2e-6)


@pytest.mark.parametrize("cells", [1, 50, 700])
@pytest.mark.parametrize("pairs", [1, 300])
@pytest.mark.parametrize("rows", [None, 33])
def test_k_reciprocal_jaccard__does_not_depend_on_block_sizes(monkeypatch, cells, pairs, rows):
    features = clustered(70, 10)
    switch(monkeypatch, "scipy")
    expected = k_reciprocal_jaccard(features, 15, 4, rows=rows)
    monkeypatch.setattr(jaccard_scipy, "_CELLS_AT_A_TIME", cells)
    monkeypatch.setattr(jaccard_scipy, "_PAIRS_AT_A_TIME", pairs)
    monkeypatch.setattr(jaccard_scipy, "_EXPANSION_ROWS", 9)
    monkeypatch.setattr(jaccard, "_SOFTMAX_ROWS", 11)
    monkeypatch.setattr(jaccard, "_DISTANCES_AT_A_TIME", 13)
    assert same_bits(k_reciprocal_jaccard(features, 15, 4, rows=rows), expected)


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("rows", [None, 33])
def test_k_reciprocal_jaccard__does_not_depend_on_threads(monkeypatch, threads, rows):
    features = clustered(70, 10)
    switch(monkeypatch, "compiled")
    expected = k_reciprocal_jaccard(features, 15, 4, rows=rows)
    monkeypatch.setattr(jaccard, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(jaccard, "_BLOCKS", 5)
    monkeypatch.setattr(jaccard, "_BATCH_ROWS", 20)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert same_bits(k_reciprocal_jaccard(features, 15, 4, rows=rows), expected)


def steps(features, lists, squared, k2):
    """The result of every step on the way to the distances, in order."""
    width = lists.shape[1]
    sets = reciprocal_sets(lists, width), reciprocal_sets(lists, round(width / 2))
    expanded = expand_sets(*sets)
    distances = expanded.astype(np.float32)
    distances.data = member_distances(features, expanded, lists, squared)
    weights = neighbor_weights(features, expanded, lists, squared)
    averaged = average_weights(weights, lists[:, :k2])
    ends = [jaccard_distances(averaged, exact=exact) for exact in (False, True)]
    ends += [jaccard_distances(averaged, 0.5, 2), jaccard_distances(averaged, 0.7)]
    return [*sets, expanded, distances, weights, averaged, *ends]


# Lists with gaps, as those of a camera with few images, over features on a coarse grid: equal rows,
# zero rows and equal distances are frequent.
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_steps__kernels_and_scipy_give_the_same_bits(data):
    number, width = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 12))
    places = arrays(np.float32, (number, 3), elements=st.integers(-1, 1).map(float))
    features = normalize_rows(data.draw(places))
    seed = data.draw(st.integers(0, 99))
    lists, squared = nearest_neighbors(features, width)
    short = np.random.default_rng(seed).integers(0, lists.shape[1] + 1, number)
    missing = np.arange(lists.shape[1]) >= short[:, None]
    if data.draw(st.booleans()):
        lists, squared = np.where(missing, -1, lists), np.where(missing, np.inf, squared)
    squared = squared.astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        switch(patch, "compiled")
        patch.setattr(jaccard, "_BLOCK_ROWS", 9)
        patch.setattr(jaccard, "_BLOCKS", 4)
        ours = steps(features, lists, squared, 3)
        switch(patch, "scipy")
        for one, other in zip(ours, steps(features, lists, squared, 3), strict=True):
            assert same_bits(one, other)
            assert one.has_sorted_indices and other.has_sorted_indices


def test_steps__kernels_and_scipy_give_the_same_bits_on_more_images(monkeypatch):
    features = clustered(5000, 24)  # more than 64 * 64 rows: both levels of marks are used
    lists, squared = nearest_neighbors(features, 20)
    switch(monkeypatch, "compiled")
    ours = steps(features, lists, squared, 6)
    switch(monkeypatch, "scipy")
    for one, other in zip(ours, steps(features, lists, squared, 6), strict=True):
        assert same_bits(one, other)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("limit", [0.0, 0.3, 0.5, 0.6, 0.999, 1.0, 2.0])
@pytest.mark.parametrize("exact", [False, True])
def test_jaccard_distances__limit_is_a_threshold_on_the_result(limit, exact):
    features = clustered(120, 10)
    features[:9] = features[0]
    lists, squared = nearest_neighbors(features, 15)
    weights = neighbor_weights(features, expanded_sets(lists), lists, squared)
    weights = average_weights(weights, lists[:, :6])
    full = dense(jaccard_distances(weights, exact=exact))
    got = jaccard_distances(weights, limit, exact=exact)
    near = (full <= np.float32(limit)) & (full < 1) | np.eye(120, dtype=bool)
    np.testing.assert_array_equal(dense(got), np.where(near, full, 1))
    assert got.nnz == near.sum()


@pytest.mark.usefixtures("path")
def test_jaccard_distances__a_distance_equal_to_the_limit_is_stored():
    weights = csr_matrix(np.array([[0.5, 0.5], [0, 0.5]], dtype=np.float32))
    # s = 0.5, and 2/3 is above float32(2/3) or not: both numbers mean the same float32.
    assert jaccard_distances(weights, 2 / 3).nnz == 4
    below = np.nextafter(np.float32(2 / 3), np.float32(0))
    assert jaccard_distances(weights, float(below)).nnz == 2
    with pytest.raises(ValueError, match="limit is -0.1"):
        jaccard_distances(weights, -0.1)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("rows", [0, 1, 40, 90])
@pytest.mark.parametrize("limit", [1.0, 0.6])
def test_k_reciprocal_jaccard__leading_rows_alone(rows, limit):
    features = clustered(90, 10)
    got = k_reciprocal_jaccard(features, 20, 6, limit=limit, rows=rows)
    assert same_bits(got, k_reciprocal_jaccard(features, 20, 6, limit=limit)[:rows])
    assert got.shape == (rows, 90)


@pytest.mark.usefixtures("path")
def test_jaccard_distances__weights_of_zero_change_nothing():
    rng = np.random.default_rng(0)
    full = np.where(rng.random((60, 60)) < 0.2, rng.random((60, 60)), 0).astype(np.float32)
    weights = csr_matrix(full / np.maximum(full.sum(axis=1, keepdims=True), 1))
    zeros = weights.copy()
    zeros.data[::3] = 0
    bare = zeros.copy()
    bare.eliminate_zeros()
    stored = zeros.nnz
    assert same_bits(jaccard_distances(zeros), jaccard_distances(bare))
    assert zeros.nnz == stored  # the argument stays as it is


@pytest.mark.usefixtures("path")
def test_member_distances__are_those_of_the_lists_or_measured():
    features = clustered(60, 10)
    lists, squared = nearest_neighbors(features, 6)
    sets = expanded_sets(nearest_neighbors(features, 20)[0])
    rows = np.repeat(np.arange(60), np.diff(sets.indptr))
    got = member_distances(features, sets, lists, squared)
    np.testing.assert_array_equal(got, pair_distances(features, rows, sets.indices))
    # A member may be in no list, and a list may say what it will: it is believed.
    got = member_distances(features, sets, lists, squared + 7)
    listed = (lists[rows] == sets.indices[:, None]).any(axis=1)
    listed |= (lists[sets.indices] == rows[:, None]).any(axis=1)
    assert not listed.all()
    np.testing.assert_array_equal(got >= 7, listed)


def test_memory_needed__grows_with_lists_and_pairs():
    assert memory_needed(1000, 30, 6) > memory_needed(1000, 30, 1) > memory_needed(1000, 10, 1)
    assert memory_needed(5, 30, 6) == memory_needed(5, 5, 6)


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
@pytest.mark.usefixtures("path")
def test_k_reciprocal_jaccard__all_rows_equal(k2):
    features = np.full((12, 4), 0.5, dtype=np.float32)
    np.testing.assert_array_equal(dense(k_reciprocal_jaccard(features, 20, k2)), np.zeros((12, 12)))


@pytest.mark.usefixtures("path")
def test_k_reciprocal_jaccard__more_equal_rows_than_k1_fall_together():
    features = clustered(60, 8)
    features[:40] = features[0]
    got = dense(k_reciprocal_jaccard(features, 10, 6))
    assert got[:40, :40].max() < 1e-6


@pytest.mark.usefixtures("path")
def test_k_reciprocal_jaccard__zero_rows_are_equal_rows_without_nan():
    features = clustered(40, 8)
    features[[3, 17]] = 0
    got = k_reciprocal_jaccard(features, 10, 6)
    # Which other rows are near to them is up to rounding: all are at distance 1.
    assert np.isfinite(got.data).all()
    assert dense(got)[3, 17] < 1e-6


@pytest.mark.usefixtures("path")
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


@pytest.mark.usefixtures("path")
def test_reciprocal_sets__toy():
    ranks = np.array([[0, 1], [1, 0], [2, 1]])
    assert reciprocal_sets(ranks, 2).toarray().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert reciprocal_sets(ranks, 0).toarray().tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(("common", "joins"), [(2, False), (3, True)])
@pytest.mark.usefixtures("path")
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


@pytest.mark.usefixtures("path")
def test_jaccard_distances__toy():
    weights = csr_matrix(np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]], dtype=np.float32))
    s = 0.5
    near = 1 - s / (2 - s)
    expected = [[0, near, 1], [near, 0, near], [1, near, 0]]
    np.testing.assert_allclose(dense(jaccard_distances(weights)), expected, atol=1e-7)


@pytest.mark.usefixtures("path")
def test_jaccard_distances__row_without_weights():
    weights = csr_matrix(np.array([[1, 0], [0, 0]], dtype=np.float32))
    assert dense(jaccard_distances(weights)).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("switch", ["1", "0"])
def test_k_reciprocal_jaccard__of_all_pairs_is_refused_where_they_do_not_fit(monkeypatch, switch):
    monkeypatch.setenv(compiled.SWITCH, switch)
    features = normalize_rows(np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32))
    pairs = k_reciprocal_jaccard(features, 20, 6).nnz
    monkeypatch.setattr(memory, "free_memory", lambda: 10 * pairs)
    with pytest.raises(UserError, match="below 1 of 400 images needs .* set UDA.CLUSTER.EPS"):
        k_reciprocal_jaccard(features, 20, 6)
    k_reciprocal_jaccard(features, 20, 6, limit=0.5)  # only those within it are stored
    monkeypatch.setattr(memory, "free_memory", lambda: 40 * pairs)
    assert k_reciprocal_jaccard(features, 20, 6).nnz == pairs
