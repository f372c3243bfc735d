"""Squared distances between rows: of pairs in one canonical way, of blocks by a matrix product.

And how far the two may differ, and which rows are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from .. import compiled
from ..compiled import read_only

_LANES = 64  # as in kernels.top_k, and a power of 2
_PAIRS_PER_TASK = 1 << 13
_ROWS_PER_TASK = 512
_CELLS_AT_A_TIME = 1 << 21
ROUNDING_OF_FLOAT32 = 2.0**-24

_logger = logging.getLogger(__name__)


def pair_distances(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The canonical squared Euclidean distances of pairs of rows.

    Canonical: differences in float32, their squares, exact, and the sums in float64 (64 partial
    sums, of every 64th dimension, which are then added in halves), rounded to float32 once. The
    result depends on the two rows alone, not on blocks, threads or back ends, is symmetric, and 0
    for equal rows.

    Args:
        features: (N, D) float32.
        rows: (P,) integers, the first row of each pair.
        columns: (P,) integers, the second one.

    Returns:
        (P,) float32 >= 0.
    """
    features = read_only(features, np.float32)
    rows, columns = read_only(rows, np.int64), read_only(columns, np.int64)
    squared = np.empty(len(rows), dtype=np.float32)
    if compiled.available():
        from .kernels import top_k

        def measure(start: int, stop: int) -> None:
            part = slice(start, stop)
            top_k.pair_distances(features, rows[part], columns[part], squared[part])

        compiled.over_rows(measure, len(rows), _PAIRS_PER_TASK)
    else:
        for part in slices(len(rows), max(1, _CELLS_AT_A_TIME // max(1, features.shape[1]))):
            squared[part] = _sums_of_squares(features[rows[part]] - features[columns[part]])
    return squared


def squared_lengths(features: np.ndarray) -> np.ndarray:
    """(N,) float64: squared lengths of the rows, bitwise the same for equal rows."""
    lengths = np.empty(len(features), dtype=np.float64)
    if compiled.available():
        from .kernels import top_k

        compiled.over_rows(
            lambda start, stop: top_k.squared_lengths(features, start, stop, lengths),
            len(features),
            _ROWS_PER_TASK,
        )
    else:
        for part in slices(len(features), max(1, _CELLS_AT_A_TIME // max(1, features.shape[1]))):
            lengths[part] = _sums_of_squares(features[part])
    return lengths


def _sums_of_squares(rows: np.ndarray) -> np.ndarray:
    """(P,) float64 of (P, D) float32, with the partial sums of `pair_distances`."""
    sums = np.zeros((len(rows), _LANES), dtype=np.float64)
    for lanes in slices(rows.shape[1], _LANES):
        part = rows[:, lanes]
        sums[:, : part.shape[1]] += np.square(part, dtype=np.float64)
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


def distance_bounds(
    lengths: np.ndarray, dimension: int, rounding: float = ROUNDING_OF_FLOAT32
) -> tuple[np.ndarray, np.ndarray]:
    """What a product in float32 says of a canonical distance.

    lower[i] + lower[j] - 2 * product is at most the canonical squared distance of rows i and j, and
    that plus slack[i] + slack[j] at least, where the sums are in float32, or in float64, and the
    product of D terms was added in any order, fused or not.

    The bounds, with u = 2^-24, S = lengths[i] + lengths[j], t the true squared distance <= 2 S:
    a product is off by at most D u / (1 - D u) times the lengths of both rows, so twice the product
    by that times S; the sums round lower[i], lower[j], their sum and the result: 4 u S; the
    canonical distance is off by 3 u t <= 6 u S. Underflow adds less than D 2^-123.

    Args:
        lengths: (N,) float64, squared lengths.
        dimension: D.
        rounding: u of the product's sums.

    Returns:
        lower and slack, (N,) float64.
    """
    terms = (dimension + 2) * rounding
    relative = terms / (1 - terms) + 12 * ROUNDING_OF_FLOAT32 if terms < 0.5 else np.inf
    tiny = dimension * 2.0**-123
    lower = lengths * (1 - relative) - tiny
    slack = lengths * (2 * relative + 4 * ROUNDING_OF_FLOAT32) + 4 * tiny
    return lower, slack


def bounds_hold(
    features: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
) -> bool:
    """Whether canonical distances of pairs lie within their bounds; a warning if not.

    For libraries that choose the arithmetic of their products themselves: a wrong idea of it would
    make doubtful rows look certain.
    """
    measured = pair_distances(features, rows, columns)
    outside = (measured < lower) | (measured > upper)
    if outside.any():
        _logger.warning(
            "The products are less exact than float32 promises (a distance of %g is not within %g "
            "and %g); the neighbours are searched again in float64, which takes longer.",
            *(float(values[outside][0]) for values in (measured, lower, upper)),
        )
    return not outside.any()


def identical_rows(features: np.ndarray, checksums: np.ndarray | None = None) -> np.ndarray | None:
    """The first row that is bitwise the same as each row, or None if no two rows are the same.

    Args:
        features: (N, D) float32, contiguous.
        checksums: (N,), equal for equal rows, and rarely for others; None: they are computed.

    Returns:
        (N,) int64, or None.
    """
    # Whole rows are compared only where their checksums agree.
    if checksums is None:
        checksums = features.view(np.uint32).sum(axis=1, dtype=np.uint64)
    _, inverse, counts = np.unique(checksums, return_inverse=True, return_counts=True)
    first_row: dict[bytes, int] = {}
    groups = np.arange(len(features))
    for row in np.flatnonzero(counts[inverse] > 1):
        groups[row] = first_row.setdefault(features[row].tobytes(), int(row))
    return groups if (groups != np.arange(len(features))).any() else None


def squared_norms(features: np.ndarray) -> np.ndarray:
    """(N,) float32: the squared Euclidean length of each row."""
    return np.einsum("nd,nd->n", features, features)


def slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `range(length)`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
