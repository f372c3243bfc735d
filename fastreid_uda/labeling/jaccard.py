"""k-reciprocal Jaccard distance: how little two images share of their mutual neighbours.

Reference: Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017, https://arxiv.org/abs/1701.08398, in the form of
`fastreid.utils.compute_dist.compute_jaccard_distance`, which fast-reid, OpenUnReID, SpCL, SECRET
and PPLR share: k1 columns in the neighbour lists, weights softmax(-d^2), no mix with the original
distance. That code keeps N x N arrays; here everything is sparse, and results agree to 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_matrix, identity, vstack

from .neighbors import nearest_neighbors, slices

_EXPANSION_ROWS = 4096
_PAIRS_AT_A_TIME = 1 << 19
_CELLS_AT_A_TIME = 1 << 20


def k_reciprocal_jaccard(
    features: np.ndarray, k1: int, k2: int, *, backend: str = "numpy"
) -> csr_matrix:
    """Jaccard distances below 1 of all pairs of rows; all other pairs are at distance 1.

    Args:
        features: (N, D) float32, unit rows, N >= 1.
        k1: columns of the neighbour lists, the image itself included; at most N are used.
        k2: neighbours whose weights are averaged (local query expansion); 1 for none.
        backend: of the neighbour search, see `nearest_neighbors`.

    Returns:
        (N, N) float32 in [0, 1), bitwise symmetric, sorted indices, zeros stored where the
        distance is 0, among them the whole diagonal.

    Raises:
        UserError: no rows, or an unknown backend.
    """
    ranks, squared = nearest_neighbors(features, k1, backend=backend)
    k1 = ranks.shape[1]
    sets = reciprocal_sets(ranks, k1)
    half_sets = reciprocal_sets(ranks, round(k1 / 2))  # half to even, as numpy.around
    expanded = expand_sets(sets, half_sets)
    weights = neighbor_weights(features, expanded, ranks, squared)
    if k2 != 1:
        weights = average_weights(weights, ranks[:, :k2])
    return jaccard_distances(weights)


def reciprocal_sets(ranks: np.ndarray, k: int) -> csr_matrix:
    """R(i, k): the rows among the first k + 1 of row i that have i among their first k + 1.

    Args:
        ranks: (N, columns), the neighbour lists; -1 where a list is shorter than the longest.
        k: at least 0; the lists may have only k columns, and then k are used.

    Returns:
        (N, N) int32, 1 at (i, j) for j in R(i, k); symmetric.
    """
    forward = _from_lists(ranks[:, : k + 1], np.int32)
    return forward.multiply(forward.T).tocsr()


def expand_sets(sets: csr_matrix, half_sets: csr_matrix) -> csr_matrix:
    """R*(i): R(i) and every R(c, k1/2), c in R(i), of which more than 2/3 lies in R(i).

    Args:
        sets: (N, N) int32 ones, R(., k1).
        half_sets: (N, N) int32 ones, R(., k1/2).

    Returns:
        (N, N) int32, 1 at (i, j) for j in R*(i); sorted indices.
    """
    half_sizes = np.diff(half_sets.indptr)
    half_transposed = half_sets.T.tocsr()
    parts = []
    for rows in slices(sets.shape[0], _EXPANSION_ROWS):
        own = sets[rows]
        common = (own @ half_transposed).multiply(own).tocsr()
        # fast-reid compares with the float 2/3 * size; integers decide every case in the same way.
        common.data = (3 * common.data > 2 * half_sizes[common.indices]).astype(np.int32)
        common.eliminate_zeros()
        expanded = own + common @ half_sets
        expanded.data[:] = 1
        parts.append(expanded)
    union = vstack(parts, format="csr")
    union.sort_indices()
    return union


def neighbor_weights(
    features: np.ndarray, sets: csr_matrix, ranks: np.ndarray, squared: np.ndarray
) -> csr_matrix:
    """V_i: softmax of the negative squared distances of row i to the members of its set.

    Args:
        features: (N, D) float32, unit rows.
        sets: (N, N) with an entry at (i, j) for j in the set of i.
        ranks: (N, k1), the neighbour lists; -1 where a list is shorter than the longest.
        squared: (N, k1) float32, their squared distances.

    Returns:
        (N, N) float32 in (0, 1], rows sum to 1; a row without a set is empty.
    """
    rows = np.repeat(np.arange(len(features)), np.diff(sets.indptr))
    table = _from_lists(ranks, np.float32)
    table.data[:] = squared[ranks >= 0]
    table.sort_indices()
    distances = np.asarray(table[rows, sets.indices]).ravel()
    # A 0 is a pair that is in no list, or one at distance 0: measured, both come out right.
    unknown = np.flatnonzero(distances == 0)
    chunk = max(1, (1 << 20) // max(1, features.shape[1]))
    for part in slices(len(unknown), chunk):
        pairs = unknown[part]
        difference = features[rows[pairs]] - features[sets.indices[pairs]]
        distances[pairs] = np.einsum("nd,nd->n", difference, difference)
    # The nearest member is row i itself, at distance 0, unless more rows are equal to it than its
    # list has places: the shift then keeps the exponentials above 0, whatever the features' length.
    nearest = np.full(len(features), np.inf)
    np.minimum.at(nearest, rows, distances)
    weights = np.exp(nearest[rows] - distances)
    weights /= np.bincount(rows, weights, minlength=len(features))[rows]
    return csr_matrix((weights.astype(np.float32), sets.indices, sets.indptr), shape=sets.shape)


def average_weights(weights: csr_matrix, neighbors: np.ndarray) -> csr_matrix:
    """The mean of the weights of each row's nearest neighbours (local query expansion).

    Args:
        weights: (N, N) float32.
        neighbors: (N, k2), the first columns of the neighbour lists; -1 where there are fewer.

    Returns:
        (N, N) float32, sorted indices.
    """
    # The product adds in list order and in float32, as numpy.mean does in fast-reid: same bits.
    averaged = _from_lists(neighbors, np.float32) @ weights
    counts = (neighbors >= 0).sum(axis=1).astype(np.float32)
    averaged.data /= np.repeat(counts, np.diff(averaged.indptr))
    averaged.sort_indices()
    return averaged


def jaccard_distances(weights: csr_matrix) -> csr_matrix:
    """J_ij = 1 - s / (2 - s) with s = sum_m min(V_im, V_jm), where it is below 1.

    Args:
        weights: (N, N) float32, V, rows sum to 1, sorted indices.

    Returns:
        As `k_reciprocal_jaccard`. The diagonal is 0 also for a row without weights.
    """
    num_rows = weights.shape[0]
    parts = list(_shared_weight_blocks(weights))
    counts = np.concatenate([[0], *(part[0] for part in parts)])
    upper = csr_matrix(
        (
            np.concatenate([part[2] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.cumsum(counts),
        ),
        shape=weights.shape,
    )
    del parts
    # SciPy's sum drops zeros, so it adds the shares s > 0; they turn into distances afterwards.
    shared = (upper + upper.T + identity(num_rows, dtype=np.float32, format="csr")).tocsr()
    shared.sort_indices()
    shared.data = _distance_of(shared.data)
    return shared


def _shared_weight_blocks(
    weights: csr_matrix,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """s_ij of j > i in blocks of rows: entries per row, their columns, their s.

    Every column m lists the rows that have a weight there (the inverted list). An entry (i, m)
    meets the rows j > i further down that list; each meeting adds min(V_im, V_jm) to s_ij.
    """
    num_rows = weights.shape[0]
    inverted = weights.tocsc()
    entry = csr_matrix((np.arange(weights.nnz), weights.indices, weights.indptr), weights.shape)
    after = np.empty(weights.nnz, dtype=np.int64)
    after[entry.tocsc().data] = np.arange(1, weights.nnz + 1)  # where the rest of the list begins
    meetings = inverted.indptr[weights.indices + 1] - after
    before = np.concatenate([[0], np.cumsum(meetings)])[weights.indptr]
    start = 0
    while start < num_rows:
        most = int(np.searchsorted(before, before[start] + _PAIRS_AT_A_TIME, side="right")) - 1
        width = num_rows - start
        stop = min(max(most, start + 1), start + max(1, _CELLS_AT_A_TIME // width), num_rows)
        own = slice(weights.indptr[start], weights.indptr[stop])
        times = meetings[own]
        total = int(before[stop] - before[start])
        places = np.repeat(after[own] - (np.cumsum(times) - times), times) + np.arange(total)
        smaller = np.minimum(np.repeat(weights.data[own], times), inverted.data[places])
        row = np.repeat(np.arange(stop - start), np.diff(weights.indptr[start : stop + 1]))
        cells = np.repeat(row * width - start, times) + inverted.indices[places]
        shared = np.bincount(cells, smaller, minlength=(stop - start) * width).astype(np.float32)
        kept = np.flatnonzero(shared)
        kept = kept[_distance_of(shared[kept]) < 1]
        in_row, columns = np.divmod(kept, width)
        yield np.bincount(in_row, minlength=stop - start), columns + start, shared[kept]
        start = stop


def _distance_of(shared: np.ndarray) -> np.ndarray:
    """1 - s / (2 - s), at least 0, rounded to float32 once."""
    exact = shared.astype(np.float64)
    return np.maximum(1 - exact / (2 - exact), 0).astype(np.float32)


def _from_lists(lists: np.ndarray, dtype: type) -> csr_matrix:
    """(N, N) with a 1 at (i, j) for every j >= 0 in row i of (N, k) `lists`, in list order."""
    indices = lists[lists >= 0]
    indptr = np.concatenate([[0], np.cumsum((lists >= 0).sum(axis=1))])
    return csr_matrix((np.ones(len(indices), dtype), indices, indptr), shape=(len(lists),) * 2)
