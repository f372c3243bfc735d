"""The steps of `jaccard.py` with SciPy, for the case that there are no compiled kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, vstack

from .row_distances import slices

_EXPANSION_ROWS = 4096
_PAIRS_AT_A_TIME = 1 << 19
_CELLS_AT_A_TIME = 1 << 20
_NEXT_TO_NOTHING = np.float32(1e-30)  # a share at distance 1: SciPy's sum drops zeros


def reciprocal_sets(ranks: np.ndarray, k: int) -> csr_matrix:
    """As `jaccard.reciprocal_sets`."""
    forward = _from_lists(ranks[:, : k + 1], np.int8)
    sets = forward.multiply(forward.T).tocsr()
    sets.sort_indices()
    return sets


def expand_sets(sets: csr_matrix, half_sets: csr_matrix) -> csr_matrix:
    """As `jaccard.expand_sets`."""
    sets, half_sets = sets.astype(np.int32), half_sets.astype(np.int32)
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
        parts.append(csr_matrix((np.ones(expanded.nnz, np.int8), expanded.indices, expanded.indptr),
                                shape=expanded.shape))  # fmt: skip
    union = vstack(parts, format="csr")
    union.sort_indices()
    return union


def listed_distances(sets: csr_matrix, ranks: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """The squared distances of members, from the list of the row or of the member; -1: in none.

    Arguments as `jaccard.neighbor_weights`; (entries of the sets,) float32.
    """
    listed = np.append(squared[ranks >= 0], np.float32(-1))
    places = _from_lists(ranks, np.int64)
    places.data = np.arange(1, len(listed))
    places.sort_indices()
    rows = np.repeat(np.arange(len(ranks), dtype=np.int32), np.diff(sets.indptr))
    found = _entries(places, rows, sets.indices) - 1  # -1: not in the list
    missing = np.flatnonzero(found < 0)
    found[missing] = _entries(places, sets.indices[missing], rows[missing]) - 1
    return listed[found]


def average_weights(weights: csr_matrix, neighbors: np.ndarray) -> csr_matrix:
    """As `jaccard.average_weights`."""
    averaged = _from_lists(neighbors, np.float32) @ weights
    counts = (neighbors >= 0).sum(axis=1).astype(np.float32)
    averaged.data /= np.repeat(counts, np.diff(averaged.indptr))
    averaged.eliminate_zeros()
    averaged.sort_indices()
    return averaged


def shared_weights(
    weights: csr_matrix,
    inverted: csc_matrix,
    least: np.float32,
    own_share: np.float32,
    like: np.ndarray,
    rows: int | None,
) -> csr_matrix:
    """s_ij = sum_m min(V_im, V_jm) where it is `least` or more, and of j = i.

    Args:
        weights: (N, N) float32 above 0, V, sorted indices.
        inverted: the same by columns, the inverted lists.
        least: above 0.
        own_share: what is stored for j = i; 0: s_ii, or next to nothing where it is 0.
        like: of the type in which the sums are made, in the order of m.
        rows: how many leading rows are computed; None: all.

    Returns:
        (rows, N) float32 above 0, sorted indices.
    """
    num_rows = weights.shape[0] if rows is None else rows
    parts = list(
        _shared_weight_blocks(
            weights, inverted, least, own_share, like, num_rows, upper=rows is None
        )
    )
    counts = np.concatenate([[0], *(part[0] for part in parts)])
    columns = np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)])
    shares = np.concatenate([np.empty(0, np.float32), *(part[2] for part in parts)])
    del parts
    shared = csr_matrix((shares, columns, counts.cumsum()), shape=(num_rows, weights.shape[1]))
    if rows is None:
        shared = shared + shared.T
    shared.sort_indices()
    return shared


def _shared_weight_blocks(
    weights: csr_matrix,
    inverted: csc_matrix,
    least: np.float32,
    own_share: np.float32,
    like: np.ndarray,
    num_rows: int,
    *,
    upper: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """s_ij of all j, or of j > i and half of s_ii, by blocks: entries per row, columns, their s.

    Every column m lists the rows that have a weight there (the inverted list). An entry (i, m)
    meets the rows of that list, or those from i on; each meeting adds min(V_im, V_jm) to s_ij.
    """
    begin = inverted.indptr[weights.indices].astype(np.int64)  # of the list that an entry meets
    if upper:
        entry = csr_matrix((np.arange(weights.nnz), weights.indices, weights.indptr), weights.shape)
        begin[entry.tocsc().data] = np.arange(weights.nnz)
    meetings = inverted.indptr[weights.indices + 1] - begin
    before = np.concatenate([[0], np.cumsum(meetings)])[weights.indptr]
    start = 0
    while start < num_rows:
        most = int(np.searchsorted(before, before[start] + _PAIRS_AT_A_TIME, side="right")) - 1
        offset = start if upper else 0
        width = weights.shape[0] - offset
        stop = min(max(most, start + 1), start + max(1, _CELLS_AT_A_TIME // width), num_rows)
        own = slice(weights.indptr[start], weights.indptr[stop])
        times = meetings[own]
        total = int(before[stop] - before[start])
        places = np.repeat(begin[own] - (np.cumsum(times) - times), times) + np.arange(total)
        smaller = np.minimum(np.repeat(weights.data[own], times), inverted.data[places])
        row = np.repeat(np.arange(stop - start), np.diff(weights.indptr[start : stop + 1]))
        cells = np.repeat(row * width - offset, times) + inverted.indices[places]
        sums = np.zeros((stop - start) * width, dtype=like.dtype)
        np.add.at(sums, cells, smaller.astype(like.dtype, copy=False))  # one after the other
        shared = sums.astype(np.float32, copy=False)
        diagonal = np.arange(stop - start) * (width + 1) + start - offset
        near = shared >= least
        near[diagonal] = True
        shared[diagonal] = own_share or np.maximum(shared[diagonal], _NEXT_TO_NOTHING)
        if upper:  # which is added to its mirror
            shared[diagonal] /= 2
        kept = np.flatnonzero(near)
        in_row, columns = np.divmod(kept, width)
        columns = (columns + offset).astype(np.int32)
        yield np.bincount(in_row, minlength=stop - start), columns, shared[kept]
        start = stop


def _entries(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(P,) values at some places, 0 where nothing is stored."""
    if not len(rows):  # SciPy has its troubles with that
        return np.empty(0, dtype=matrix.dtype)
    return np.asarray(matrix[rows, columns]).ravel()


def _from_lists(lists: np.ndarray, dtype: type) -> csr_matrix:
    """(N, N) with a 1 at (i, j) for every j >= 0 in row i of (N, k) `lists`, in list order."""
    indices = lists[lists >= 0]
    indptr = np.concatenate([[0], np.cumsum((lists >= 0).sum(axis=1))])
    return csr_matrix((np.ones(len(indices), dtype), indices, indptr), shape=(len(lists),) * 2)
