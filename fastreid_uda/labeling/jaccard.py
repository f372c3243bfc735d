"""k-reciprocal Jaccard distance: how little two images share of their mutual neighbours.

Reference: Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017, https://arxiv.org/abs/1701.08398, in the form of
`fastreid.utils.compute_dist.compute_jaccard_distance`, which fast-reid, OpenUnReID, SpCL, SECRET
and PPLR share: k1 columns in the neighbour lists, weights softmax(-d^2), no mix with the original
distance. That code keeps N x N arrays; here everything is sparse, and results agree to 1e-6;
`jaccard_exact.py` agrees bit for bit.

Every step has compiled kernels and, for the case that there are none, a path of SciPy that gives
the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from .. import compiled
from ..compiled import read_only
from ..memory import require_memory
from . import jaccard_scipy
from .neighbors import nearest_neighbors
from .row_distances import pair_distances

_BLOCKS = 256  # of rows, in which a step is done
_BLOCK_ROWS = 256  # at least
_BATCH_ROWS = 1 << 14  # at least; the results of a batch are held beside the whole
_BATCHES = 16
_SAMPLED_ROWS = 64
_SOFTMAX_ROWS = 1 << 16
_DISTANCES_AT_A_TIME = 1 << 18


def k_reciprocal_jaccard(
    features: np.ndarray,
    k1: int,
    k2: int,
    *,
    backend: str = "auto",
    precision: str = "float32",
    approximate: str = "",
    force_approximate: bool = False,
    limit: float = 1.0,
    rows: int | None = None,
) -> csr_matrix:
    """Jaccard distances below 1 of all pairs of rows; all other pairs are at distance 1.

    Args:
        features: (N, D) float32, unit rows, N >= 1.
        k1: columns of the neighbour lists, the image itself included; at most N are used.
        k2: neighbours whose weights are averaged (local query expansion); 1 for none.
        backend: of the neighbour search, see `nearest_neighbors`.
        precision: likewise.
        approximate: likewise.
        force_approximate: likewise.
        limit: see `jaccard_distances`.
        rows: likewise.

    Returns:
        As `jaccard_distances`.

    Raises:
        UserError: no rows, or a back end that is unknown or not installed.
    """
    ranks, squared = nearest_neighbors(
        features,
        k1,
        backend=backend,
        precision=precision,
        approximate=approximate,
        force_approximate=force_approximate,
    )
    weights = neighbor_weights(features, expanded_sets(ranks), ranks, squared)
    if k2 != 1:
        weights = average_weights(weights, ranks[:, :k2])
    del ranks, squared
    return jaccard_distances(weights, limit, rows)


def memory_needed(num_images: int, k1: int, k2: int) -> int:
    """Bytes that the steps after the neighbour search take at most, an estimate.

    The distances are counted as if eps were known. Where all below 1 are wanted, their number
    depends on the features (seen were 0.4 k1^2 to 14 k1^2 for each image); it is looked at as soon
    as there are weights, see `jaccard_distances`.
    """
    k1 = min(k1, num_images)
    pairs = min(k1 * k1 // (6 if k2 == 1 else 2), num_images)
    pairs *= 1 if compiled.available() else 2  # SciPy adds the upper half and its mirror
    lists = 12 * k1  # row numbers, int64, and distances, float32
    weights = 2 * 8 * k1  # row numbers, int32, and weights, float32, by rows and by columns
    # A pair is a number and a distance, and half as much again while they are collected.
    return num_images * (lists + weights + 12 * pairs)


def expanded_sets(ranks: np.ndarray) -> csr_matrix:
    """R*(i), `expand_sets` of the k1-reciprocal sets of all rows with lists (N, k1)."""
    k1 = ranks.shape[1]
    half = round(k1 / 2)  # half to even, as numpy.around
    return expand_sets(reciprocal_sets(ranks, k1), reciprocal_sets(ranks, half))


def reciprocal_sets(ranks: np.ndarray, k: int) -> csr_matrix:
    """R(i, k): the rows among the first k + 1 of row i that have i among their first k + 1.

    Args:
        ranks: (N, columns), the neighbour lists; -1 where a list is shorter than the longest.
        k: at least 0; the lists may have only k columns, and then k are used.

    Returns:
        (N, N) int8, 1 at (i, j) for j in R(i, k); symmetric, sorted indices.
    """
    if not compiled.available():
        return jaccard_scipy.reciprocal_sets(ranks, k)
    from .kernels import jaccard as kernels

    lists, width = read_only(ranks, np.int32), min(k + 1, ranks.shape[1])
    return _by_rows(kernels.reciprocal_rows, (len(ranks),) * 2, np.int8, lists, width)


def expand_sets(sets: csr_matrix, half_sets: csr_matrix) -> csr_matrix:
    """R*(i): R(i) and every R(c, k1/2), c in R(i), of which more than 2/3 lies in R(i).

    Args:
        sets: (N, N) ones, R(., k1).
        half_sets: (N, N) ones, R(., k1/2).

    Returns:
        (N, N) int8, 1 at (i, j) for j in R*(i); sorted indices.
    """
    if not compiled.available():
        return jaccard_scipy.expand_sets(sets, half_sets)
    from .kernels import jaccard as kernels

    arrays = *_structure(sets), *_structure(half_sets)
    return _by_rows(kernels.expanded_rows, sets.shape, np.int8, *arrays)


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
    weights = member_distances(features, sets, ranks, squared)

    def to_weights(start: int, stop: int) -> None:
        first, last = sets.indptr[start], sets.indptr[stop]
        sizes = np.diff(sets.indptr[start : stop + 1])
        rows = np.repeat(np.arange(stop - start), sizes)
        distances = weights[first:last].astype(np.float64)
        # The nearest member is row i itself, at distance 0, unless more rows are equal to it than
        # its list has places: the shift then keeps the exponentials above 0, whatever the lengths.
        nearest = np.zeros(stop - start)
        if len(rows):
            begins = sets.indptr[start:stop][sizes > 0] - first
            nearest[sizes > 0] = np.minimum.reduceat(distances, begins)
        powers = np.exp(nearest[rows] - distances)
        weights[first:last] = powers / np.bincount(rows, powers)[rows] if len(rows) else powers

    compiled.over_rows(to_weights, sets.shape[0], _SOFTMAX_ROWS)
    return csr_matrix((weights, sets.indices, sets.indptr), shape=sets.shape)


def member_distances(
    features: np.ndarray, sets: csr_matrix, ranks: np.ndarray, squared: np.ndarray
) -> np.ndarray:
    """The squared distances of every row to the members of its set, (entries,) float32.

    From the list of the row, else from that of the member, else measured. Arguments as
    `neighbor_weights`.
    """
    if compiled.available():
        from .kernels import jaccard as kernels

        pointers, members = _structure(sets)
        lists, values = read_only(ranks, np.int32), read_only(squared, np.float32)
        distances = np.empty(len(members), dtype=np.float32)

        def look_up(start: int, stop: int) -> None:
            kernels.listed_distances(pointers, members, lists, values, start, stop, distances)

        compiled.over_rows(look_up, len(ranks), _block_rows(len(ranks)))
    else:
        distances = jaccard_scipy.listed_distances(sets, ranks, squared)
    unknown = np.flatnonzero(distances < 0)
    rows = np.searchsorted(sets.indptr, unknown, side="right") - 1
    distances[unknown] = pair_distances(features, rows, sets.indices[unknown])
    return distances


def average_weights(weights: csr_matrix, neighbors: np.ndarray) -> csr_matrix:
    """The mean of the weights of each row's nearest neighbours (local query expansion).

    Added in list order and in float32, as numpy.mean does in fast-reid: the same bits.

    Args:
        weights: (N, N) float32, sorted indices.
        neighbors: (N, k2), the first columns of the neighbour lists; -1 where there are fewer.

    Returns:
        (N, N) float32, sorted indices; weights of 0 are not stored.
    """
    if not compiled.available():
        return jaccard_scipy.average_weights(weights, neighbors)
    from .kernels import jaccard as kernels

    arrays = *_structure(weights), read_only(weights.data, np.float32)
    lists = read_only(neighbors, np.int32)
    return _by_rows(kernels.averaged_rows, weights.shape, np.float32, *arrays, lists)


def jaccard_distances(
    weights: csr_matrix, limit: float = 1.0, rows: int | None = None, *, exact: bool = False
) -> csr_matrix:
    """J_ij = 1 - s / (2 - s) with s = sum_m min(V_im, V_jm), as far as they are stored.

    Args:
        weights: (N, N) float32 >= 0, V, rows sum to 1, sorted indices.
        limit: only distances up to this are stored, compared in float32, and only those below 1;
            at least 0.
        rows: how many leading rows are computed; None: all.
        exact: with the rounding of fast-reid, which has the formula in float32, and its diagonal,
            which rounding may take off 0 and which is 1 for a row without weights.

    Returns:
        (rows, N) float32 in [0, 1), sorted indices, zeros stored where the distance is 0, among
        them the whole diagonal, also of rows without weights; bitwise symmetric.

    Raises:
        UserError: all distances below 1 are wanted and take more memory than is free.
    """
    if not weights.data.all():
        weights = weights.copy()
        weights.eliminate_zeros()
    distance_of = _distance_in_float32 if exact else _distance_of
    least = _least_share(limit, distance_of)
    own_share = np.float32(0 if exact else 1)
    # In float64 the weights of identical images add up to 1, once it is rounded.
    like = np.empty(0, dtype=np.float32 if exact else np.float64)
    num_rows = weights.shape[0] if rows is None else rows
    inverted = weights.tocsc()
    if limit >= 1:
        _require_memory_for_all(weights, inverted, num_rows)
    if compiled.available():
        from .kernels import jaccard as kernels

        arrays = [
            read_only(array, dtype)
            for matrix in (weights, inverted)
            for array, dtype in (
                (matrix.indptr, np.int64),
                (matrix.indices, np.int32),
                (matrix.data, np.float32),
            )
        ]
        shape, numbers = (num_rows, weights.shape[1]), (least, own_share, like)
        shared = _by_rows(kernels.shared_weights, shape, np.float32, *arrays, *numbers)
        del inverted, arrays
    else:
        shared = jaccard_scipy.shared_weights(weights, inverted, least, own_share, like, rows)

    def to_distances(start: int, stop: int) -> None:
        shared.data[start:stop] = distance_of(shared.data[start:stop])

    compiled.over_rows(to_distances, shared.nnz, _DISTANCES_AT_A_TIME)
    return shared


def _require_memory_for_all(weights: csr_matrix, inverted: csc_matrix, num_rows: int) -> None:
    """Announce, or refuse, the distances below 1 of leading rows, counted in a sample of them."""
    sample = np.unique(np.linspace(0, max(num_rows - 1, 0), _SAMPLED_ROWS).astype(np.int64))
    met = [inverted[:, weights.indices[slice(*weights.indptr[row : row + 2])]] for row in sample]
    counts = np.array([len(np.unique(rows.indices)) for rows in met])
    # A distance and a number, half as much again while they are collected; SciPy adds the mirror.
    needed = (12 if compiled.available() else 24) * num_rows * float(counts.mean())
    require_memory(
        f"Storing all Jaccard distances below 1 of {num_rows:,} images", int(needed),
        "set UDA.CLUSTER.EPS, so that only pairs within it are stored, or lower "
        "UDA.DISTANCE.JACCARD.K1",
    )  # fmt: skip


def _distance_of(shared: np.ndarray) -> np.ndarray:
    """1 - s / (2 - s), at least 0, rounded to float32 once."""
    wide = shared.astype(np.float64)
    return np.maximum(1 - wide / (2 - wide), 0).astype(np.float32)


def _distance_in_float32(shared: np.ndarray) -> np.ndarray:
    """The same, rounded to float32 after every step."""
    return np.maximum(1 - shared / (2 - shared), 0)


def _least_share(limit: float, distance_of: Callable[[np.ndarray], np.ndarray]) -> np.float32:
    """The smallest float32 above 0 whose distance is at most the limit, and below 1."""
    if not limit >= 0:
        raise ValueError(f"The limit is {limit}, but distances are 0 or more.")
    low, high = 1, int(np.float32(1).view(np.uint32))  # as integers, floats have the same order
    while low < high:
        middle = (low + high) // 2
        distance = distance_of(np.array([middle], dtype=np.uint32).view(np.float32))[0]
        if distance <= np.float32(limit) and distance < 1:
            high = middle
        else:
            low = middle + 1
    return np.uint32(low).view(np.float32)


def _structure(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Row pointers and column numbers as kernels take them."""
    return read_only(matrix.indptr, np.int64), read_only(matrix.indices, np.int32)


def _block_rows(num_rows: int) -> int:
    return max(_BLOCK_ROWS, -(-num_rows // _BLOCKS))


def _by_rows(
    block: Callable[..., Any], shape: tuple[int, int], dtype: type, *arguments: Any
) -> csr_matrix:
    """The matrix of which a kernel makes the rows; ones, if the kernel gives no values.

    It grows by batches of blocks (the memory is moved by the system, without a copy), so that
    nothing but a batch is held twice.
    """
    rows = _block_rows(shape[0])
    batch = max(_BATCH_ROWS, shape[0] // _BATCHES)
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    indices: np.ndarray = np.empty(0, dtype=np.int32)
    values: np.ndarray = np.empty(0, dtype=dtype)
    for first in range(0, shape[0], batch):

        def make(start: int, stop: int, first: int = first) -> Any:
            return block(*arguments, first + start, first + stop)

        blocks = compiled.over_rows(make, min(batch, shape[0] - first), rows)
        counts = np.concatenate([part[0] for part in blocks])
        indptr[first + 1 : first + 1 + len(counts)] = indptr[first] + np.cumsum(counts)
        stop = len(indices)
        for array in (indices, values):
            array.resize(indptr[first + len(counts)], refcheck=False)
        for _, columns, *data in blocks:
            start, stop = stop, stop + len(columns)
            indices[start:stop] = columns
            values[start:stop] = data[0] if data else 1
    narrow = np.int32 if indptr[-1] < 1 << 31 else np.int64
    return csr_matrix((values, indices, indptr.astype(narrow)), shape=shape)
