"""Distances between all images of a view, asked for in ways that never need an N x N array."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import UserError
from .camera_normalization import normalize_rows
from .neighbors import (
    identical_rows,
    slices,
    squared_distance_block,
    squared_norms,
    zero_identical,
)
from .types import OUTLIER

ROUNDING = 2e-6
"""More than the rounding error of a float32 Jaccard distance."""


class _Smallest:
    """The smallest of many numbers, holding no more than twice as many at a time.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts = [np.empty(0, dtype=np.float32)]
        self._bound = np.float32(np.inf)

    def add(self, numbers: np.ndarray) -> None:
        """Take more numbers, float32, into account."""
        self._parts.append(numbers[numbers < self._bound])
        if sum(map(len, self._parts)) > 2 * self._count:
            merged = np.partition(np.concatenate(self._parts), self._count - 1)
            self._parts = [merged[: self._count]]
            self._bound = self._parts[0].max()

    def ascending(self) -> np.ndarray:
        """The `count` smallest, or all if they are fewer, float32."""
        return np.sort(np.concatenate(self._parts))[: self._count]


class PairwiseDistances(ABC):
    """The symmetric distances, 0 on the diagonal, between N images.

    Attributes:
        num_rows: N, at least 1.
        fill: the distance of every pair that is not stored; NaN where all pairs are known.
    """

    num_rows: int
    fill: float

    @abstractmethod
    def within(self, radius: float) -> csr_matrix:
        """All pairs at distance <= radius, compared in float32: (N, N) float32, symmetric.

        Indices are sorted; zeros are stored, and so is the whole diagonal.
        """

    def below(self, limit: float) -> csr_matrix:
        """All pairs at distance < limit, above 0, compared in float32; otherwise as `within`."""
        return self.within(float(np.nextafter(np.float32(limit), np.float32(0))))

    @abstractmethod
    def row_blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """All distances, some rows at a time: start, stop and a (stop - start, N) float32 array."""

    @abstractmethod
    def subset(self, rows: np.ndarray) -> PairwiseDistances:
        """The same distances between some of the images, up to the rounding of a product.

        Args:
            rows: (M,) int64, different numbers of images, which become images 0..M-1.
        """

    @abstractmethod
    def _stored_pairs(self, camera_ids: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The distances of the stored pairs i < j, each once, in flat float32 arrays.

        With camera ids (N,), only those of images of different cameras.
        """

    @abstractmethod
    def _class_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `class_sums`, of images that are all in a class."""

    def smallest_mean(
        self, fraction: float, camera_ids: np.ndarray | None = None, *, zeros: bool = False
    ) -> tuple[float, int]:
        """The mean of the smallest distances, and how many they are.

        Of the M pairs i < j that take part, the max(1, round(fraction * M)) nearest count; those
        that are not stored have the distance `fill`. No more than twice as many distances are held
        at a time, and one block.

        Args:
            fraction: in (0, 1].
            camera_ids: (N,) integers: only pairs of images of different cameras take part. None:
                all pairs.
            zeros: whether pairs at distance 0 take part.

        Raises:
            UserError: if M is 0.
        """
        pairs = math.comb(self.num_rows, 2)
        if camera_ids is not None:
            images = np.unique(camera_ids, return_counts=True)[1]
            pairs -= sum(math.comb(int(number), 2) for number in images)
        at_most = max(1, round(fraction * pairs))
        smallest = _Smallest(at_most)
        for distances in self._stored_pairs(camera_ids):
            if not zeros:
                pairs -= int(np.count_nonzero(distances == 0))
                distances = distances[distances > 0]
            smallest.add(distances)
        if pairs == 0:
            kind = "pair" if zeros else "distance above 0"
            where = "them" if camera_ids is None else "different cameras"
            raise UserError(
                f"The {self.num_rows} target images have no {kind} between {where}, so eps cannot "
                "be taken from it; set UDA.CLUSTER.EPS, or look for identical images."
            )
        count = max(1, round(fraction * pairs))
        counted = smallest.ascending()[:count]
        total = counted.sum(dtype=np.float64)
        if len(counted) < count:
            total += (count - len(counted)) * self.fill
        return float(total / count), count

    def radii(self, neighbors: np.ndarray) -> np.ndarray:
        """The radii within which images have so many images on average, not counting equal ones.

        Args:
            neighbors: (S,) ascending, at least 1: the image itself counts, others at distance 0, or
                at one that is rounding, do not.

        Returns:
            (S,) float32; `fill`, or the largest distance, where there are not so many pairs.
        """
        pairs = np.maximum(1, np.rint((neighbors - 1) * self.num_rows / 2)).astype(np.int64)
        smallest = _Smallest(int(pairs[-1]))
        for distances in self._stored_pairs():
            smallest.add(distances[distances > ROUNDING])
        found = smallest.ascending()
        missing = self.fill if not math.isnan(self.fill) else found.max(initial=0)
        return np.append(found, np.float32(missing))[np.minimum(pairs - 1, len(found))]

    def keep_within(self, radius: float) -> None:  # noqa: B027  the default is to do nothing
        """Keep all pairs within a radius in memory, if they are not: `within` less is fast then."""

    def class_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sums of the distances from each image to its class, and to all classes.

        Args:
            labels: (N,) int64 in {OUTLIER} and 0, 1, ...

        Returns:
            (N,) float64, the sum over the images with the same label, and (N,) float64, the sum
            over all images that have a label. Both are 0 for outliers.
        """
        kept = np.flatnonzero(labels != OUTLIER)
        own, everyone = np.zeros((2, self.num_rows))
        own[kept], everyone[kept] = self.subset(kept)._class_sums(labels[kept])
        return own, everyone

    def count_near(self, radius: float, tolerance: float = ROUNDING) -> int:
        """How many pairs i < j lie so close to a radius that rounding decides about them.

        With k2 = 6, Jaccard distances pile up at 2/7, 1/2, 2/3, 0.8 and 10/11, where the overlap
        is m/6. The tolerance is the rounding error of a float32 Jaccard distance, with a margin.
        """
        near, missing = 0, math.comb(self.num_rows, 2)
        for distances in self._stored_pairs():
            missing -= len(distances)
            near += int(np.count_nonzero(abs(distances.astype(np.float64) - radius) <= tolerance))
        return near + missing if abs(self.fill - radius) <= tolerance else near


class SparseDistances(PairwiseDistances):
    """Distances of which the large ones are all the same and not stored.

    Args:
        matrix: (N, N) float32, symmetric, in [0, fill), zeros and the whole diagonal stored.
        fill: the distance of the pairs that are not stored, 1 for Jaccard.
    """

    def __init__(self, matrix: csr_matrix, fill: float = 1.0) -> None:
        self.num_rows = matrix.shape[0]
        self.fill = fill
        matrix = csr_matrix(matrix, dtype=np.float32)
        self._matrix = matrix if matrix.has_sorted_indices else matrix.sorted_indices()
        if np.count_nonzero(self._rows() == self._matrix.indices) != self.num_rows:
            raise ValueError("The diagonal of sparse distances has to be stored, zeros included.")

    def within(self, radius: float) -> csr_matrix:
        """As `PairwiseDistances.within`; a `UserError` if the radius reaches `fill`: all pairs."""
        if radius >= self.fill:
            raise UserError(
                f"UDA.CLUSTER.EPS is {radius}, but distances end at {self.fill}; choose less."
            )
        kept = self._matrix.data <= np.float32(radius)
        indptr = np.concatenate([[0], np.cumsum(kept)])[self._matrix.indptr]
        entries = self._matrix.data[kept], self._matrix.indices[kept], indptr
        return csr_matrix(entries, self._matrix.shape)

    def row_blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """As `PairwiseDistances.row_blocks`, in blocks of about 64 MB."""
        for rows in slices(self.num_rows, max(1, (1 << 24) // self.num_rows)):
            stored = self._matrix[rows].tocoo()
            block = np.full(stored.shape, self.fill, dtype=np.float32)
            block[stored.row, stored.col] = stored.data
            yield rows.start, rows.stop, block

    def subset(self, rows: np.ndarray) -> SparseDistances:
        """As `PairwiseDistances.subset`, the very same numbers."""
        return SparseDistances(self._matrix[rows][:, rows], self.fill)

    def _stored_pairs(self, camera_ids: np.ndarray | None = None) -> Iterator[np.ndarray]:
        rows, columns = self._rows(), self._matrix.indices
        taken = columns > rows
        if camera_ids is not None:
            taken &= camera_ids[rows] != camera_ids[columns]
        yield self._matrix.data[taken]

    def _class_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # As if every pair were at distance `fill`, then corrected by those that are stored.
        rows, excess = self._rows(), self._matrix.data.astype(np.float64) - self.fill
        same = labels[rows] == labels[self._matrix.indices]
        own = np.bincount(rows[same], excess[same], minlength=self.num_rows)
        everyone = np.bincount(rows, excess, minlength=self.num_rows)
        sizes = np.bincount(labels)[labels]
        return own + sizes * self.fill, everyone + self.num_rows * self.fill

    def _rows(self) -> np.ndarray:
        return np.repeat(np.arange(self.num_rows), np.diff(self._matrix.indptr))


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
        self, features: np.ndarray, metric: Literal["cosine", "euclidean"], block_rows: int = 1024
    ) -> None:
        if len(features) == 0:
            raise UserError("The target set has 0 images; there is nothing to label.")
        self.num_rows = len(features)
        self._block_rows = block_rows
        self._blocks = list(slices(self.num_rows, block_rows))
        self._metric = metric
        self._images: np.ndarray | None = None  # the rows of the features that count, if not all
        self._near: SparseDistances | None = None  # the pairs of `keep_within`
        self._features = np.ascontiguousarray(features, dtype=np.float32)
        self._groups = identical_rows(self._features)
        self._norms = squared_norms(self._features)
        if metric == "cosine":
            zero = ~self._features.any(axis=1)
            if self._groups is not None:
                self._groups[zero] = np.flatnonzero(zero)
            if not np.allclose(self._norms[~zero], 1, atol=1e-4):
                self._features = normalize_rows(self._features)

    def within(self, radius: float) -> csr_matrix:
        """As `PairwiseDistances.within`."""
        if self._near is not None and np.float32(radius) < self._near.fill:
            return self._near.within(radius)
        # Concatenated, not summed as matrices: a sum would drop the pairs at distance 0.
        rows, columns = [np.arange(self.num_rows)], [np.arange(self.num_rows)]
        distances = [np.zeros(self.num_rows, np.float32)]
        for upper, right, block in self._upper_blocks():
            near = block <= np.float32(radius)
            i, j = np.nonzero(np.triu(near, 1) if upper == right else near)
            rows += [i + upper.start, j + right.start]
            columns += [j + right.start, i + upper.start]
            distances += [block[i, j]] * 2
        places = np.concatenate(rows), np.concatenate(columns)
        graph = csr_matrix((np.concatenate(distances), places), shape=(self.num_rows,) * 2)
        graph.sort_indices()
        return graph

    def row_blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """As `PairwiseDistances.row_blocks`."""
        for rows in self._blocks:
            left = [self._block(b, rows).T for b in self._blocks if b.start < rows.start]
            right = [self._block(rows, b) for b in self._blocks if b.start >= rows.start]
            yield rows.start, rows.stop, np.hstack(left + right)

    def keep_within(self, radius: float) -> None:
        """As `PairwiseDistances.keep_within`."""
        beyond = float(np.nextafter(np.float32(radius), np.float32(np.inf)))
        self._near = SparseDistances(self.within(radius), fill=beyond)

    def subset(self, rows: np.ndarray) -> BlockwiseDistances:
        """As `PairwiseDistances.subset`, without a copy of the features."""
        part = copy.copy(self)
        part.num_rows, part._near = len(rows), None
        part._blocks = list(slices(len(rows), self._block_rows))
        part._images = rows if self._images is None else self._images[rows]
        part._groups = None if self._groups is None else self._groups[rows]
        return part

    def _stored_pairs(self, camera_ids: np.ndarray | None = None) -> Iterator[np.ndarray]:
        for rows, columns, block in self._upper_blocks():
            if camera_ids is not None:
                taken = camera_ids[rows, None] != camera_ids[columns]
                yield block[np.triu(taken) if rows == columns else taken]
            else:
                yield block[np.triu_indices(len(block), 1)] if rows == columns else block.ravel()

    def _class_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own, everyone = np.zeros((2, self.num_rows))
        for rows, columns, block in self._upper_blocks():
            i, j = np.nonzero(labels[rows, None] == labels[columns])
            same = block[i, j]
            own[rows] += np.bincount(i, same, minlength=block.shape[0])
            everyone[rows] += block.sum(axis=1, dtype=np.float64)
            if rows != columns:
                own[columns] += np.bincount(j, same, minlength=block.shape[1])
                everyone[columns] += block.sum(axis=0, dtype=np.float64)
        return own, everyone

    def _upper_blocks(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        for number, rows in enumerate(self._blocks):
            for columns in self._blocks[number:]:
                yield rows, columns, self._block(rows, columns)

    def _block(self, rows: slice, columns: slice) -> np.ndarray:
        """Distances of a block of the upper triangle; one on the diagonal is made symmetric."""
        i: slice | np.ndarray = rows if self._images is None else self._images[rows]
        j: slice | np.ndarray = columns if self._images is None else self._images[columns]
        if self._metric == "cosine":
            block = np.maximum(1 - self._features[i] @ self._features[j].T, 0)
        else:
            block = squared_distance_block(self._features, self._norms, i, j)
            np.sqrt(block, out=block)
        zero_identical(block, rows, columns, self._groups)
        return np.triu(block, 1) + np.triu(block, 1).T if rows == columns else block
