"""Distances between all images of a view, asked for in ways that never need an N x N array."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csr_matrix

from .. import compiled
from ..errors import UserError
from .row_distances import slices
from .smallest import MOST_HELD, Histogram, Smallest
from .types import OUTLIER

ROUNDING = 2e-6
"""More than the rounding error of a float32 Jaccard distance."""

_ENTRIES_AT_A_TIME = 1 << 20


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
    def _stored_pairs(
        self, camera_ids: np.ndarray | None = None, bound: Callable[[], float] | None = None
    ) -> Iterator[np.ndarray]:
        """The distances of the stored pairs i < j, each once, in flat float32 arrays.

        With camera ids (N,), only those of images of different cameras. Those that are not below
        the bound, which is asked again and again, may be left out.
        """

    @abstractmethod
    def _class_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `class_sums`, of images that are all in a class."""

    def smallest_mean(
        self, fraction: float, camera_ids: np.ndarray | None = None, *, zeros: bool = False
    ) -> tuple[float, int]:
        """The mean of the smallest distances, and how many they are.

        Of the M pairs i < j that take part, the max(1, round(fraction * M)) nearest count; those
        that are not stored have the distance `fill`. At most 16 million distances are held, and one
        block; if more than 8 million count, all are looked at twice.

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
        smallest = Smallest(at_most) if at_most <= MOST_HELD else Histogram()
        bound = (lambda: smallest.bound) if isinstance(smallest, Smallest) else None
        for distances in self._stored_pairs(camera_ids, bound):
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
        if isinstance(smallest, Smallest):
            counted = smallest.ascending()[:count]
            found, total = len(counted), float(counted.sum(dtype=np.float64))
        else:
            found = min(count, int(smallest.counts.sum()))
            parts = self._stored_pairs(camera_ids)
            total = smallest.sum_of(found, (x if zeros else x[x > 0] for x in parts))
        if found < count:
            total += (count - found) * self.fill
        return total / count, count

    def radii(self, neighbors: np.ndarray) -> np.ndarray:
        """The radii within which images have so many images on average, not counting equal ones.

        Args:
            neighbors: (S,) ascending, at least 1: the image itself counts, others at distance 0, or
                at one that is rounding, do not.

        Returns:
            (S,) float32; `fill`, or the largest distance, where there are not so many pairs.
        """
        return self._radii(neighbors, ROUNDING)

    def near_radii(self, neighbors: np.ndarray) -> np.ndarray:
        """As `radii`, but equal images count, and infinity for what lies beyond the known pairs."""
        return self._radii(neighbors, -math.inf)

    def _radii(self, neighbors: np.ndarray, above: float) -> np.ndarray:
        """As `radii`, of the distances above a limit."""
        pairs = np.maximum(1, np.rint((neighbors - 1) * self.num_rows / 2)).astype(np.int64)
        smallest = Smallest(int(pairs[-1]))
        for distances in self._stored_pairs(None, lambda: smallest.bound):
            smallest.add(distances[distances > above])
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
        limit: the largest distance up to which all pairs are stored; None: all below `fill` are.
            With a limit, questions about pairs beyond it raise a `ValueError`, and so do those
            about all pairs: `row_blocks`, `radii`, `smallest_mean`, `class_sums`.
    """

    def __init__(self, matrix: csr_matrix, fill: float = 1.0, limit: float | None = None) -> None:
        self.num_rows = matrix.shape[0]
        self.fill = fill
        self._limit = None if limit is None or limit >= fill else limit
        matrix = csr_matrix(matrix, dtype=np.float32)
        self._matrix = matrix if matrix.has_sorted_indices else matrix.sorted_indices()
        diagonal = sum(
            int(np.count_nonzero(self._rows(rows) == self._matrix.indices[entries]))
            for rows, entries in self._parts()
        )
        if diagonal != self.num_rows:
            raise ValueError("The diagonal of sparse distances has to be stored, zeros included.")

    def within(self, radius: float) -> csr_matrix:
        """As `PairwiseDistances.within`; a `UserError` if the radius reaches `fill`: all pairs."""
        if radius >= self.fill:
            raise UserError(
                f"UDA.CLUSTER.EPS is {radius}, but distances end at {self.fill}; choose less."
            )
        self._require(radius)
        matrix, largest = self._matrix, np.float32(radius)
        indptr = np.zeros(self.num_rows + 1, dtype=np.int64)

        def count(start: int, stop: int) -> None:
            rows, entries = self._part(start, stop)
            near = matrix.data[entries] <= largest
            own = self._rows(rows)[near] - start
            indptr[start + 1 : stop + 1] = np.bincount(own, minlength=stop - start)

        compiled.over_rows(count, self.num_rows, self._part_rows)
        np.cumsum(indptr, out=indptr)
        indices = np.empty(indptr[-1], dtype=matrix.indices.dtype)
        data = np.empty(indptr[-1], dtype=np.float32)

        def fill(start: int, stop: int) -> None:
            entries = self._part(start, stop)[1]
            near = matrix.data[entries] <= largest
            filled = slice(indptr[start], indptr[stop])
            indices[filled] = matrix.indices[entries][near]
            data[filled] = matrix.data[entries][near]

        compiled.over_rows(fill, self.num_rows, self._part_rows)
        return csr_matrix((data, indices, indptr.astype(matrix.indptr.dtype)), matrix.shape)

    def row_blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """As `PairwiseDistances.row_blocks`, in blocks of about 64 MB."""
        self._require(self.fill)
        for rows in slices(self.num_rows, max(1, (1 << 24) // self.num_rows)):
            stored = self._matrix[rows].tocoo()
            block = np.full(stored.shape, self.fill, dtype=np.float32)
            block[stored.row, stored.col] = stored.data
            yield rows.start, rows.stop, block

    def subset(self, rows: np.ndarray) -> SparseDistances:
        """As `PairwiseDistances.subset`, the very same numbers."""
        return SparseDistances(self._matrix[rows][:, rows], self.fill, self._limit)

    def count_near(self, radius: float, tolerance: float = ROUNDING) -> int:
        """As `PairwiseDistances.count_near`."""
        self._require(radius + tolerance)
        whole = copy.copy(self)
        whole._limit = None  # the pairs that are not stored are farther away
        return super(SparseDistances, whole).count_near(radius, tolerance)

    def near_radii(self, neighbors: np.ndarray) -> np.ndarray:
        """As `PairwiseDistances.near_radii`."""
        whole = copy.copy(self)
        whole._limit = None  # the pairs that are not stored are farther away
        radii = super(SparseDistances, whole).near_radii(neighbors)
        return radii if self._limit is None else np.where(radii > self._limit, np.inf, radii)

    def _stored_pairs(
        self, camera_ids: np.ndarray | None = None, bound: Callable[[], float] | None = None
    ) -> Iterator[np.ndarray]:
        self._require(self.fill)
        for block, entries in self._parts():
            rows, columns = self._rows(block), self._matrix.indices[entries]
            taken = columns > rows
            if camera_ids is not None:
                taken &= camera_ids[rows] != camera_ids[columns]
            yield self._matrix.data[entries][taken]

    def _class_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._require(self.fill)
        # As if every pair were at distance `fill`, then corrected by those that are stored.
        own, everyone = np.zeros((2, self.num_rows))
        for block, entries in self._parts():
            rows, columns = self._rows(block), self._matrix.indices[entries]
            excess = self._matrix.data[entries].astype(np.float64) - self.fill
            same, place = labels[rows] == labels[columns], rows - block.start
            size = block.stop - block.start
            own[block] = np.bincount(place[same], excess[same], minlength=size)
            everyone[block] = np.bincount(place, excess, minlength=size)
        sizes = np.bincount(labels)[labels]
        return own + sizes * self.fill, everyone + self.num_rows * self.fill

    def _require(self, radius: float) -> None:
        """Refuse a question that needs pairs beyond the limit."""
        if self._limit is not None and np.float32(radius) > np.float32(self._limit):
            raise ValueError(
                f"Pairs up to {radius} were asked for, but only those up to {self._limit} are "
                "stored."
            )

    @property
    def _part_rows(self) -> int:
        """Rows with about a million entries."""
        return max(1, (_ENTRIES_AT_A_TIME * self.num_rows) // max(1, self._matrix.nnz))

    def _part(self, start: int, stop: int) -> tuple[slice, slice]:
        """Some rows and their entries."""
        indptr = self._matrix.indptr
        return slice(start, stop), slice(int(indptr[start]), int(indptr[stop]))

    def _parts(self) -> Iterator[tuple[slice, slice]]:
        for rows in slices(self.num_rows, self._part_rows):
            yield self._part(rows.start, rows.stop)

    def _rows(self, rows: slice) -> np.ndarray:
        """The row of each entry of some rows."""
        numbers = np.arange(rows.start, rows.stop, dtype=self._matrix.indices.dtype)
        return np.repeat(numbers, np.diff(self._matrix.indptr[rows.start : rows.stop + 1]))
