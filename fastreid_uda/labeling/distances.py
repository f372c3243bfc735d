"""Distances between all images of a view, asked for in ways that never need an N x N array."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import UserError
from ..registry import Registry
from .camera_normalization import normalize_rows
from .jaccard import k_reciprocal_jaccard
from .neighbors import (
    check_backend,
    identical_rows,
    slices,
    squared_distance_block,
    squared_norms,
    zero_identical,
)


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

    @abstractmethod
    def row_blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """All distances, some rows at a time: start, stop and a (stop - start, N) float32 array."""

    @abstractmethod
    def _stored_pairs(self) -> Iterator[np.ndarray]:
        """The distances of the stored pairs i < j, each once, in flat float32 arrays."""

    def smallest_mean(self, fraction: float) -> tuple[float, int]:
        """The mean of the smallest non-zero distances, and how many they are.

        Of the M pairs i < j that are not at distance 0, the max(1, round(fraction * M)) nearest
        count, those that are not stored with the distance `fill`. A `UserError` if M is 0.
        """
        pairs = math.comb(self.num_rows, 2)
        at_most = max(1, round(fraction * pairs))
        smallest = np.empty(0, dtype=np.float32)
        for distances in self._stored_pairs():
            pairs -= int(np.count_nonzero(distances == 0))
            bound = smallest[-1] if len(smallest) == at_most else np.inf
            near = distances[(distances > 0) & (distances < bound)]
            smallest = np.sort(np.concatenate([smallest, near]))[:at_most]
        if pairs == 0:
            raise UserError(
                f"The {self.num_rows} target images have no distance above 0 between them, so eps "
                "cannot be taken from it; set UDA.CLUSTER.EPS, or look for identical images."
            )
        count = max(1, round(fraction * pairs))
        total = smallest[:count].sum(dtype=np.float64)
        if len(smallest) < count:
            total += (count - len(smallest)) * self.fill
        return float(total / count), count

    def count_near(self, radius: float, tolerance: float = 2e-6) -> int:
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

    def _stored_pairs(self) -> Iterator[np.ndarray]:
        yield self._matrix.data[self._matrix.indices > self._rows()]

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
        self._blocks = list(slices(self.num_rows, block_rows))
        self._metric = metric
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

    def _stored_pairs(self) -> Iterator[np.ndarray]:
        for rows, columns, block in self._upper_blocks():
            yield block[np.triu_indices(len(block), 1)] if rows == columns else block.ravel()

    def _upper_blocks(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        for number, rows in enumerate(self._blocks):
            for columns in self._blocks[number:]:
                yield rows, columns, self._block(rows, columns)

    def _block(self, rows: slice, columns: slice) -> np.ndarray:
        """Distances of a block of the upper triangle; one on the diagonal is made symmetric."""
        if self._metric == "cosine":
            block = np.maximum(1 - self._features[rows] @ self._features[columns].T, 0)
        else:
            block = squared_distance_block(self._features, self._norms, rows, columns)
            np.sqrt(block, out=block)
        zero_identical(block, rows, columns, self._groups)
        return np.triu(block, 1) + np.triu(block, 1).T if rows == columns else block


class Distance(Protocol):
    """What the pipeline asks of a distance.

    One that looks at the cameras also has the method of `ChecksCameras`.
    """

    def measure(
        self, features: np.ndarray, camera_ids: np.ndarray | None = None, round_index: int = 0
    ) -> PairwiseDistances:
        """The distances between all rows of one view.

        Args:
            features: (N, D) float32.
            camera_ids: (N,) integers, or None where the cameras are unknown.
            round_index: 0 in the first round.
        """


DISTANCES = Registry("UDA.DISTANCE.NAME")  # classes with the method of `Distance`


@DISTANCES.register
@dataclass(frozen=True)
class Jaccard:
    """k-reciprocal Jaccard distance in [0, 1], see `jaccard.py`; k1 and k2 are clamped to N."""

    k1: int = 30  # neighbours, the image itself included; 30 as SECRET
    k2: int = 6  # neighbours whose weights are averaged; 1 for none
    backend: str = "numpy"  # of the neighbour search: numpy | faiss

    def __post_init__(self) -> None:
        for key, value in (("K1", self.k1), ("K2", self.k2)):
            if value < 1:
                raise UserError(f"UDA.DISTANCE.JACCARD.{key} is {value}, but must be at least 1.")
        check_backend(self.backend)

    def measure(
        self, features: np.ndarray, camera_ids: np.ndarray | None = None, round_index: int = 0
    ) -> SparseDistances:
        """Distances of unit rows; pairs that are not stored are at distance 1."""
        matrix = k_reciprocal_jaccard(features, self.k1, self.k2, backend=self.backend)
        return SparseDistances(matrix)


@DISTANCES.register
@dataclass(frozen=True)
class Cosine:
    """1 - cos in [0, 2], the distance of MSPLR."""

    def measure(
        self, features: np.ndarray, camera_ids: np.ndarray | None = None, round_index: int = 0
    ) -> BlockwiseDistances:
        """Distances of rows of any length, zero included."""
        return BlockwiseDistances(features, "cosine")


@DISTANCES.register
@dataclass(frozen=True)
class Euclidean:
    """Euclidean distance, in [0, 2] for unit rows; the distance of NPLP."""

    def measure(
        self, features: np.ndarray, camera_ids: np.ndarray | None = None, round_index: int = 0
    ) -> BlockwiseDistances:
        """Distances of rows of any length."""
        return BlockwiseDistances(features, "euclidean")
