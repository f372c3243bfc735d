"""Distances between query and gallery features, one block of queries at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import compiled
from ..compiled import read_only
from ..errors import UserError

DistanceBlocks = Callable[[int, int], np.ndarray]
"""`block(start, stop)`: (stop - start, G) distances of these queries; smaller = closer, no NaN."""

METRICS = ("cosine", "euclidean")
_CHECKED_ROWS = 4096  # rows per finiteness check; bounds its memory
_ROWS_PER_TASK = 16


def feature_distances(
    query_features: np.ndarray, gallery_features: np.ndarray, metric: str
) -> DistanceBlocks:
    """Distances between features in float32, computed block by block.

    Features in float32 are not copied, as long as their rows are contiguous.

    Args:
        query_features: (Q, D) floats.
        gallery_features: (G, D) floats.
        metric: "cosine" is 1 - cosine in [0, 2], 1 for a zero row; "euclidean" is the SQUARED
            distance, as in fast-reid (`fastreid/utils/compute_dist.py`): the ranking is the same,
            the mixture of re-ranking is not.

    Raises:
        UserError: for another metric, features that do not fit together, NaN or infinity.
    """
    if metric not in METRICS:
        raise UserError(f"The metric is {metric!r}, but the known ones are: {', '.join(METRICS)}.")
    _require_comparable(query_features, gallery_features)
    with np.errstate(over="ignore"):  # what overflows is reported below, with the squares
        query, gallery = _single(query_features), _single(gallery_features)
    return _cosine(query, gallery) if metric == "cosine" else _squared_euclidean(query, gallery)


def _require_comparable(query_features: np.ndarray, gallery_features: np.ndarray) -> None:
    for side, features in (("query", query_features), ("gallery", gallery_features)):
        if features.ndim != 2 or features.dtype.kind != "f":
            raise UserError(
                f"The {side} features are {features.dtype} of shape {features.shape}, but must be "
                "floats of shape (images, dimensions)."
            )
        if bad := count_nonfinite_rows(features):
            raise UserError(
                f"{bad} of {len(features)} {side} feature rows hold NaN or infinity; the model "
                "that made them has diverged, use one of its earlier checkpoints."
            )
    if query_features.shape[1] != gallery_features.shape[1]:
        raise UserError(
            f"Query features have {query_features.shape[1]} dimensions, gallery features "
            f"{gallery_features.shape[1]}; both must come from the same model."
        )


def _single(features: np.ndarray) -> np.ndarray:
    """The features in float32, with contiguous rows, which is what the BLAS takes as it is."""
    single = np.asarray(features, dtype=np.float32)
    return single if single.strides[1] == single.itemsize else np.ascontiguousarray(single)


def _cosine(query: np.ndarray, gallery: np.ndarray) -> DistanceBlocks:
    query_norms, gallery_norms = -row_norms(query), read_only(row_norms(gallery))

    def block_of(start: int, stop: int) -> np.ndarray:
        # The product is scaled rather than the gallery: no normalised copy of it.
        block = (query[start:stop] / query_norms[start:stop, None]) @ gallery.T
        if compiled.available():
            from . import kernels

            compiled.over_rows(
                lambda first, last: kernels.finish_cosine(block[first:last], gallery_norms),
                len(block),
                _ROWS_PER_TASK,
            )
            return block
        block /= gallery_norms
        return np.add(1, block, out=block)

    return block_of


def _squared_euclidean(query: np.ndarray, gallery: np.ndarray) -> DistanceBlocks:
    query_squares, gallery_squares = map(read_only, (_row_squares(query), _row_squares(gallery)))

    def block_of(start: int, stop: int) -> np.ndarray:
        block = (-2 * query[start:stop]) @ gallery.T
        squares = query_squares[start:stop]
        if compiled.available():
            from . import kernels

            compiled.over_rows(
                lambda first, last: kernels.finish_euclidean(
                    block[first:last], squares[first:last], gallery_squares
                ),
                len(block),
                _ROWS_PER_TASK,
            )
            return block
        block += squares[:, None]
        block += gallery_squares
        return block

    return block_of


def row_norms(features: np.ndarray) -> np.ndarray:
    """(N,) Euclidean norms of (N, D) features, at least 1e-12 as torch's normalize has it."""
    return np.maximum(np.sqrt(_row_squares(features)), 1e-12)


def _row_squares(features: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        squares = np.einsum("nd,nd->n", features, features)
    if not np.isfinite(squares).all():
        raise UserError("Some features have squares too large for float32; scale them down.")
    return squares


def count_nonfinite_rows(features: np.ndarray) -> int:
    """Rows of (N, D) floats that hold NaN or infinity."""
    bad = 0
    for start in range(0, len(features), _CHECKED_ROWS):
        rows = features[start : start + _CHECKED_ROWS]
        with np.errstate(over="ignore"):
            squares = np.einsum("nd,nd->n", rows, rows)
        doubtful = rows[~np.isfinite(squares)]  # most often none, at the cost of one pass
        bad += int(np.count_nonzero(~np.isfinite(doubtful).all(axis=1)))
    return bad
