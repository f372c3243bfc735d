"""Distances between all images of a view, computed from the features block by block."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from .. import compiled
from ..errors import UserError
from .camera_normalization import normalize_rows
from .pairwise import ROUNDING, PairwiseDistances, SparseDistances
from .row_distances import identical_rows, slices, squared_norms
from .smallest import MOST_HELD

BLOCK_ROWS = 1024

_MOST_REMEMBERED = 1 << 24
"""Pairs that `count_near` keeps for `within`: 340 MB. Where there are more, they are found anew."""

_KERNEL_ROWS = 256


class BlockwiseDistances(PairwiseDistances):
    """Distances computed from the features whenever they are asked for, block by block.

    Every pair is computed as (lower, higher) block and mirrored: (i, j) and (j, i) have the same
    bits. Bitwise equal rows are at distance 0, whatever the rounding of the product.

    Args:
        features: (N, D) float32, N >= 1, of any length.
        metric: `"euclidean"`, or `"cosine"`, 1 - cos; there a zero row is at distance 1 from all
            others, other zero rows too (MSPLR: an image that is alone in its camera).
        block_rows: rows and columns of a block.
    """

    fill = math.nan

    def __init__(
        self,
        features: np.ndarray,
        metric: Literal["cosine", "euclidean"],
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        if len(features) == 0:
            raise UserError("The target set has 0 images; there is nothing to label.")
        self.num_rows = len(features)
        self._block_rows = block_rows
        self._blocks = list(slices(self.num_rows, block_rows))
        self._metric = metric
        self._images: np.ndarray | None = None  # the rows of the features that count, if not all
        self._near: SparseDistances | None = None  # the pairs of `keep_within` and `count_near`
        self._features = np.ascontiguousarray(features, dtype=np.float32)
        groups = identical_rows(self._features)
        self._norms = squared_norms(self._features)
        if metric == "cosine":
            zero = ~self._features.any(axis=1)
            if groups is not None:
                groups[zero] = np.flatnonzero(zero)
            if not np.allclose(self._norms[~zero], 1, atol=1e-4):
                self._features = normalize_rows(self._features)
        self._groups = np.arange(self.num_rows) if groups is None else groups
        self._repeated = _repeated(self._groups)

    def within(self, radius: float) -> csr_matrix:
        """As `PairwiseDistances.within`."""
        if self._near is not None and np.float32(radius) < self._near.fill:
            return self._near.within(radius)
        graph = self._graph(radius, None)
        assert graph is not None
        return graph

    def row_blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """As `PairwiseDistances.row_blocks`."""
        for rows in self._blocks:
            whole = np.empty((rows.stop - rows.start, self.num_rows), dtype=np.float32)
            for other in self._blocks:
                if other.start < rows.start:
                    whole[:, other] = self._block(self._rows(other), other, rows).T
                    continue
                block = self._block(self._rows(rows), rows, other)
                whole[:, other] = block
                if other == rows:
                    lower = np.tril_indices(len(block), -1)
                    whole[:, other][lower] = block.T[lower]
            yield rows.start, rows.stop, whole

    def keep_within(self, radius: float) -> None:
        """As `PairwiseDistances.keep_within`."""
        self._remember(self.within(radius), radius)

    def count_near(self, radius: float, tolerance: float = ROUNDING) -> int:
        """As `PairwiseDistances.count_near`; the pairs within are kept, unless they are many."""
        outer = _next(radius + tolerance)  # not to be lost when it becomes a float32
        if self._near is None or not outer < self._near.fill:
            graph = self._graph(outer, _MOST_REMEMBERED)
            if graph is None:
                return super().count_near(radius, tolerance)
            self._remember(graph, outer)
        assert self._near is not None
        return self._near.count_near(radius, tolerance)

    def subset(self, rows: np.ndarray) -> BlockwiseDistances:
        """As `PairwiseDistances.subset`, without a copy of the features."""
        part = copy.copy(self)
        part.num_rows, part._near = len(rows), None
        part._blocks = list(slices(len(rows), self._block_rows))
        part._images = rows if self._images is None else self._images[rows]
        part._groups = self._groups[rows]
        part._repeated = _repeated(part._groups)
        return part

    def _remember(self, graph: csr_matrix, radius: float) -> None:
        self._near = SparseDistances(graph, fill=_next(radius))

    def _graph(self, radius: float, most: int | None) -> csr_matrix | None:
        """As `within`; None if there are more than so many pairs i < j."""
        shape = self.num_rows, self.num_rows
        rows, columns, distances = ([np.empty(0, t)] for t in (np.int32, np.int32, np.float32))
        pairs = 0
        for upper, right, places, values in self._selected(None, lambda: _next(radius)):
            pairs += len(places)
            if most is not None and pairs > most:
                return None
            width = right.stop - right.start
            rows.append(upper.start + places // width)
            columns.append(right.start + places % width)
            distances.append(values)
        entries = np.concatenate(distances), (np.concatenate(rows), np.concatenate(columns))
        return _with_mirror(csr_matrix(entries, shape))

    def _stored_pairs(
        self, camera_ids: np.ndarray | None = None, bound: Callable[[], float] | None = None
    ) -> Iterator[np.ndarray]:
        for _, _, _, values in self._selected(camera_ids, bound or (lambda: math.inf)):
            yield values

    def _selected(
        self, camera_ids: np.ndarray | None, bound: Callable[[], float]
    ) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """The pairs i < j below a bound, which is asked before every block.

        Args:
            camera_ids: (N,), only pairs of different cameras; None: all pairs.
            bound: the distances that are left out.

        Yields:
            The rows and columns of a block; the place of each pair in it, row by row, (P,) int32;
            and the distances (P,) float32.
        """
        room: tuple[np.ndarray, np.ndarray] | None = None
        for rows, columns, block in self._upper_blocks():
            below = np.float32(bound())
            if camera_ids is None:
                one, other = np.zeros(len(block), np.int64), np.ones(block.shape[1], np.int64)
            else:
                one, other = camera_ids[rows].astype(np.int64), camera_ids[columns].astype(np.int64)
            if not compiled.available():
                taken = (block < below) & (one[:, None] != other)
                places = np.flatnonzero(np.triu(taken, 1) if rows == columns else taken)
                yield rows, columns, places.astype(np.int32), block.ravel()[places]
                continue
            room = room or (np.empty(block.size, np.int32), np.empty(block.size, np.float32))
            yield rows, columns, *_select(block, one, other, rows == columns, below, room)

    def _class_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = np.zeros((2, self.num_rows))
        labels = labels.astype(np.int32)
        for rows, columns, block in self._upper_blocks():
            one, other = labels[rows], labels[columns]
            if compiled.available():
                of_rows, of_columns = _sums_of(block, one, other, rows == columns)
            else:
                block = np.triu(block, 1) if rows == columns else block
                same = np.where(one[:, None] == other, block, 0)
                of_rows, of_columns = (
                    np.stack([x.sum(axis=axis, dtype=np.float64) for x in (same, block)])
                    for axis in (1, 0)
                )
            sums[:, rows] += of_rows
            sums[:, columns] += of_columns
        return sums[0], sums[1]

    def _upper_blocks(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Rows, columns and distances, valid until the next; see `_block`."""
        size = min(self._block_rows, self.num_rows)
        room = np.empty(size * size, dtype=np.float32)
        for number, rows in enumerate(self._blocks):
            left = self._rows(rows)
            for columns in self._blocks[number:]:
                shape = rows.stop - rows.start, columns.stop - columns.start
                out = room[: shape[0] * shape[1]].reshape(shape)
                yield rows, columns, self._block(left, rows, columns, out)

    def _block(
        self, left: np.ndarray, rows: slice, columns: slice, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Distances of a block of the upper triangle; below a diagonal they are not the mirror.

        Args:
            left: `self._rows(rows)`.
            rows: of the block.
            columns: of the block, the same or later ones.
            out: what to write to.
        """
        block = np.matmul(left, self._rows(columns).T, out=out)
        if compiled.available():
            from .kernels.pairwise import to_distances

            one, other = self._norms_of(rows), self._norms_of(columns)
            euclidean = self._metric == "euclidean"
            compiled.over_rows(
                lambda start, stop: to_distances(block, one, other, euclidean, start, stop),
                len(block),
                _KERNEL_ROWS,
            )
        elif self._metric == "cosine":
            np.maximum(np.subtract(1, block, out=block), 0, out=block)
        else:
            block *= -2
            block += self._norms_of(columns)
            block += self._norms_of(rows)[:, None]
            np.sqrt(np.maximum(block, 0, out=block), out=block)
        if rows == columns:
            np.fill_diagonal(block, 0)
        i, j = (self._repeated[slice(*np.searchsorted(self._repeated, (part.start, part.stop)))]
                for part in (rows, columns))  # fmt: skip
        if len(i) and len(j):
            a, b = np.nonzero(self._groups[i, None] == self._groups[j])
            block[i[a] - rows.start, j[b] - columns.start] = 0
        return block

    def _rows(self, rows: slice) -> np.ndarray:
        return self._features[rows if self._images is None else self._images[rows]]

    def _norms_of(self, rows: slice) -> np.ndarray:
        return self._norms[rows if self._images is None else self._images[rows]]


def blockwise_memory(
    num_images: int, dimension: int, metric: str = "euclidean", fraction: float = 0.0
) -> int:
    """Bytes that `BlockwiseDistances` take above the features, an upper estimate.

    Without the pairs that a caller asks for, `within` a radius: 30 bytes for each.

    Args:
        num_images: N.
        dimension: D.
        metric: see `BlockwiseDistances`.
        fraction: of `smallest_mean`, if that is asked for.
    """
    size = min(num_images, BLOCK_ROWS)
    # The block, its places and values, and two gathered parts of a subset.
    block = 4 * size * (3 * size + 2 * dimension)
    # Unit rows of features that are not.
    copies = 4 * num_images * dimension if metric == "cosine" else 0
    # Twice as many numbers as count, and those that count in order.
    smallest = 12 * min(MOST_HELD, int(fraction * num_images * num_images / 2))
    return block + copies + smallest + 64 * num_images


def _next(radius: float) -> float:
    """The float32 after the one that is nearest to a number."""
    return float(np.nextafter(np.float32(radius), np.float32(np.inf)))


def _repeated(groups: np.ndarray) -> np.ndarray:
    """The places of the numbers that stand more than once in groups (N,), ascending."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[inverse] > 1)


def _select(
    block: np.ndarray,
    row_cameras: np.ndarray,
    column_cameras: np.ndarray,
    upper: bool,
    below: np.float32,
    room: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Places and distances, see `BlockwiseDistances._selected`; arrays of their own."""
    from .kernels.pairwise import select_below

    cameras, (places, values) = (row_cameras, column_cameras), room

    def task(start: int, stop: int) -> slice:
        found = select_below(block, *cameras, upper, below, places, values, start, stop)
        first = start * block.shape[1]
        return slice(first, first + found)

    parts = compiled.over_rows(task, len(block), _KERNEL_ROWS)
    picked, distances = (np.concatenate([x[part] for part in parts]) for x in (places, values))
    return picked, distances


def _sums_of(
    block: np.ndarray, row_labels: np.ndarray, column_labels: np.ndarray, upper: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sums (2, R) over the columns and (2, C) over the rows: of the same label, and of all."""
    from .kernels.pairwise import class_sums

    of_rows = np.zeros((2, len(block)))

    def task(start: int, stop: int) -> np.ndarray:
        of_columns = np.zeros((2, block.shape[1]))
        class_sums(block, row_labels, column_labels, upper, of_rows, of_columns, start, stop)
        return of_columns

    parts = compiled.over_rows(task, len(block), _KERNEL_ROWS)
    return of_rows, np.sum(parts, axis=0)


def _with_mirror(upper: csr_matrix) -> csr_matrix:
    """The pairs i < j, the pairs j > i, and a diagonal of zeros, indices sorted.

    Not the sum of three matrices, which would drop the pairs at distance 0.
    """
    upper.sort_indices()
    lower = csr_matrix(upper.T)
    left, right = np.diff(lower.indptr), np.diff(upper.indptr)
    indptr = np.concatenate([[0], np.cumsum(left.astype(np.int64) + right + 1)])
    indices = np.empty(indptr[-1], dtype=upper.indices.dtype)
    distances = np.empty(indptr[-1], dtype=np.float32)
    for part, counts, first in (
        (lower, left, indptr[:-1]),
        (upper, right, indptr[:-1] + left + 1),
    ):
        places = np.arange(part.nnz) + np.repeat(first - part.indptr[:-1], counts)
        indices[places], distances[places] = part.indices, part.data
    diagonal = indptr[:-1] + left
    indices[diagonal], distances[diagonal] = np.arange(len(left)), 0
    return csr_matrix((distances, indices, indptr), upper.shape)
