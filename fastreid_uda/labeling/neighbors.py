"""The nearest neighbours of every image, exactly, without an N x N array."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UserError

_BLOCK_COLUMNS = 4096


def nearest_neighbors(
    features: np.ndarray,
    k: int,
    *,
    backend: str = "numpy",
    block_rows: int = 1024,
    rows: np.ndarray | None = None,
    among: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of every row by squared Euclidean distance, the row itself included.

    Equal distances are ordered by row number, also where the k-th place cuts through them. A row
    with k or more equals of lower number is therefore missing from its own list.

    Args:
        features: (N, D) float32, N >= 1.
        k: at least 1; more than M gives M columns.
        backend: `"numpy"`, or `"faiss"` if that is installed. faiss finds the same neighbours but
            orders equal distances in its own way.
        block_rows: rows treated at a time by NumPy; a trade of memory against call overhead.
        rows: (Q,) int64, the rows whose neighbours are asked for; None: all.
        among: (M,) int64, ascending, the rows that may be neighbours; None: all.

    Returns:
        Row numbers (Q, min(k, M)) int64, nearest first, and their squared distances, float32 >= 0.

    Raises:
        UserError: no rows, or an unknown or missing backend.
    """
    if len(features) == 0:
        raise UserError("The target set has 0 images; there is nothing to label.")
    if k < 1:
        raise ValueError(f"k is {k}, but a neighbour list has at least 1 entry.")
    features = np.ascontiguousarray(features, dtype=np.float32)
    k = min(k, len(features) if among is None else len(among))
    check_backend(backend)
    if backend == "faiss":
        indices, distances = _faiss_neighbors(features, k, rows, among)
    else:
        indices, distances = _numpy_neighbors(features, k, block_rows, rows, among)
    return indices if among is None else among[indices], distances


def check_backend(backend: str, key: str = "UDA.DISTANCE.JACCARD.BACKEND") -> None:
    """Raise a `UserError`, which names the key, unless the neighbour search has this back end."""
    if backend not in ("faiss", "numpy"):
        raise UserError(f"{key} is {backend!r}, but the known names are: faiss, numpy.")
    if backend == "faiss":
        try:
            import faiss  # noqa: F401
        except ImportError:
            raise UserError(
                f"{key} is 'faiss', which is not installed; install faiss-cpu or set it to numpy."
            ) from None


def _numpy_neighbors(
    features: np.ndarray,
    k: int,
    block_rows: int,
    rows: np.ndarray | None,
    among: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_neighbors`, but numbered by their place in `among`."""
    num_rows = len(features) if rows is None else len(rows)
    num_columns = len(features) if among is None else len(among)
    norms = squared_norms(features)
    groups = identical_rows(features)
    if groups is None and not (rows is None and among is None):
        groups = np.arange(len(features))  # each row is identical to itself alone
    indices = np.empty((num_rows, k), dtype=np.int64)
    distances = np.empty((num_rows, k), dtype=np.float32)
    for lines in slices(num_rows, block_rows):
        own = lines if rows is None else rows[lines]
        found = np.empty((lines.stop - lines.start, 0), dtype=np.int64)
        values = np.empty(found.shape, dtype=np.float32)
        for columns in slices(num_columns, _BLOCK_COLUMNS):
            others = columns if among is None else among[columns]
            block = squared_distance_block(features, norms, own, others)
            zero_identical(block, own, others, groups)
            near, near_values = _smallest_in_rows(block, k)
            found = np.hstack([found, near + columns.start])
            values = np.hstack([values, near_values])
            # Stable, and earlier columns stand on the left: equal distances stay ordered by number.
            order = np.argsort(values, axis=1, kind="stable")[:, :k]
            found = np.take_along_axis(found, order, axis=1)
            values = np.take_along_axis(values, order, axis=1)
        indices[lines], distances[lines] = found, values
    return indices, distances


def _smallest_in_rows(block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest entries of each row, ordered by value, then by column: columns and values."""
    if k >= block.shape[1]:
        columns = np.argsort(block, axis=1, kind="stable")
        return columns, np.take_along_axis(block, columns, axis=1)
    partitioned = np.argpartition(block, k, axis=1)
    columns = np.sort(partitioned[:, :k], axis=1)
    values = np.take_along_axis(block, columns, axis=1)
    # argpartition takes any of the entries that are equal to the k-th; where there are more of
    # them than places, and that is rare in real features, the row is sorted in full.
    first_left_out = np.take_along_axis(block, partitioned[:, k : k + 1], axis=1)
    tied = np.flatnonzero(values.max(axis=1) == first_left_out[:, 0])
    if len(tied):
        columns[tied] = np.argsort(block[tied], axis=1, kind="stable")[:, :k]
        values[tied] = np.take_along_axis(block[tied], columns[tied], axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _faiss_neighbors(
    features: np.ndarray, k: int, rows: np.ndarray | None, among: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features if among is None else features[among])
    distances, indices = index.search(features if rows is None else features[rows], k)
    return indices.astype(np.int64), np.maximum(distances, 0)


def slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `range(length)`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def squared_norms(features: np.ndarray) -> np.ndarray:
    """(N,) float32: the squared Euclidean length of each row."""
    return np.einsum("nd,nd->n", features, features)


def squared_distance_block(
    features: np.ndarray,
    norms: np.ndarray,
    rows: slice | np.ndarray,
    columns: slice | np.ndarray,
) -> np.ndarray:
    """Squared Euclidean distances of some rows to some others by one matrix product.

    Args:
        features: (N, D) float32.
        norms: (N,) float32, `squared_norms(features)`.
        rows: the rows of the block, a slice or their numbers.
        columns: its columns, likewise.

    Returns:
        (rows, columns) float32 >= 0. Rounding leaves about 1e-7 of the squared norms, also between
        equal rows: see `zero_identical`.
    """
    block = features[rows] @ features[columns].T
    block *= -2
    block += norms[columns]
    block += norms[rows, None]
    return np.maximum(block, 0, out=block)


def identical_rows(features: np.ndarray) -> np.ndarray | None:
    """The first row that is bitwise the same as each row, or None if no two rows are the same.

    Args:
        features: (N, D) float32, contiguous.

    Returns:
        (N,) int64, or None.
    """
    # Whole rows are compared only where their checksums agree.
    checksums = features.view(np.uint32).sum(axis=1, dtype=np.uint64)
    _, inverse, counts = np.unique(checksums, return_inverse=True, return_counts=True)
    first_row: dict[bytes, int] = {}
    groups = np.arange(len(features))
    for row in np.flatnonzero(counts[inverse] > 1):
        groups[row] = first_row.setdefault(features[row].tobytes(), int(row))
    return groups if (groups != np.arange(len(features))).any() else None


def zero_identical(
    block: np.ndarray,
    rows: slice | np.ndarray,
    columns: slice | np.ndarray,
    groups: np.ndarray | None,
) -> None:
    """Set the distance of each row to itself, and to rows of the same group, to exactly 0.

    Args:
        block: (rows, columns) distances, changed in place.
        rows: the rows of the block, or their numbers.
        columns: its columns, likewise.
        groups: (N,) integers, equal where rows are identical, or None; see `identical_rows`. None
            needs slices.
    """
    if groups is not None:
        block[groups[rows, None] == groups[columns]] = 0
        return
    if not (isinstance(rows, slice) and isinstance(columns, slice)):
        raise TypeError("Rows and columns that are given by number need groups.")
    both = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
    block[both - rows.start, both - columns.start] = 0
