"""Silhouettes of clusterings, without an N x N array."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_matrix

from .pairwise import PairwiseDistances
from .row_distances import slices
from .types import OUTLIER, renumber

_ENTRIES_AT_A_TIME = 1 << 20


def mean_silhouettes(distances: PairwiseDistances, labels: np.ndarray) -> list[float]:
    """The mean silhouette of the images in clusters, for several labelings of the same images.

    Args:
        distances: between the N images.
        labels: (S, N) int64.

    Returns:
        S values in [-1, 1]; 0 where there are fewer than two clusters.
    """
    kept = np.maximum(1, (labels != OUTLIER).sum(axis=1))
    return (silhouettes(distances, labels).sum(axis=1) / kept).tolist()


def silhouettes(distances: PairwiseDistances, labels: np.ndarray) -> np.ndarray:
    """How much nearer each image is to its own cluster than to the nearest other one.

    s = (b - a) / max(a, b), where a is the mean distance to the other images of the cluster and b
    the smallest mean distance to the images of another cluster. Images in no cluster take no part.
    It is exact: where only some pairs are stored, all others are at distance `fill`, and so is the
    mean to every cluster without a stored pair, so that stored pairs are all that is looked at.
    Where all pairs count, every distance is computed once or twice, whatever S.

    Reference: Rousseeuw, "Silhouettes", J. Comput. Appl. Math. 20, 1987.

    Args:
        distances: between the N images.
        labels: (S, N) int64, S labelings.

    Returns:
        (S, N) float64 in [-1, 1]; 0 for images in no cluster, images that are alone in theirs, and
        labelings with fewer than two clusters.
    """
    near, far = np.zeros((2, *labels.shape))
    several = [
        number for number, row in enumerate(labels) if len(np.unique(row[row != OUTLIER])) > 1
    ]
    members = {number: _Membership(labels[number]) for number in several}
    if math.isnan(distances.fill):
        for start, stop, block in distances.row_blocks():
            columns = np.ascontiguousarray(block.T)
            for number, member in members.items():
                part = slice(start, stop)
                near[number, part], far[number, part] = member.of_block(columns, part)
    else:
        stored = distances.below(distances.fill)
        for number, member in members.items():
            near[number], far[number] = member.of_stored(stored, distances.fill)
    return _relative(near, far)


def stored_silhouettes(stored: csr_matrix, fill: float, labels: np.ndarray) -> np.ndarray:
    """As `silhouettes`, of a graph: pairs that it does not hold are at a distance of their own.

    Args:
        stored: (N, N) float32, distances of at most `fill`, with the whole diagonal.
        fill: the distance of all other pairs.
        labels: (N,) int64.

    Returns:
        (N,) float64.
    """
    if len(np.unique(labels[labels != OUTLIER])) < 2:
        return np.zeros(len(labels))
    return _relative(*_Membership(labels).of_stored(stored, fill))


def _relative(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    larger = np.maximum(near, far)
    return np.divide(far - near, larger, out=np.zeros_like(larger), where=larger > 0)


class _Membership:
    """One labeling with two or more clusters, and the a and b of its images.

    Both are 0 for images in no cluster and for those that are alone in theirs.

    Args:
        labels: (N,) int64.
    """

    def __init__(self, labels: np.ndarray) -> None:
        labels, _ = renumber(labels)
        kept = np.flatnonzero(labels != OUTLIER)
        self.labels = labels
        self.sizes = np.bincount(labels[kept])
        ones = np.ones(len(kept), dtype=np.float32)
        shape = len(labels), len(self.sizes)
        self.matrix = csr_matrix((ones, (kept, labels[kept])), shape=shape)
        self.clusters = csr_matrix(self.matrix.T)
        self.counts = (labels != OUTLIER) & (self.sizes[labels] > 1)

    def of_block(self, columns: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """From all distances (N, B) to the B images of a part."""
        own, images = self.labels[part], np.arange(columns.shape[1])
        sums = self.clusters @ columns
        near = sums[own, images] / np.maximum(1, self.sizes[own] - 1)
        sums /= self.sizes[:, None]
        sums[own, images] = np.inf
        counts = self.counts[part]
        return np.where(counts, near, 0), np.where(counts, sums.min(axis=0), 0)

    def of_stored(self, stored: csr_matrix, fill: float) -> tuple[np.ndarray, np.ndarray]:
        """From the stored pairs, those on the diagonal included; all others are at `fill`."""
        near = np.full(len(self.labels), -fill)  # an image is no neighbour of its own
        far = np.zeros(len(self.labels))
        rows_at_a_time = max(1, (_ENTRIES_AT_A_TIME * len(near)) // max(1, stored.nnz))
        for rows in slices(len(near), rows_at_a_time):
            part = stored[rows]
            closeness = fill - part.data.astype(np.float64)
            pairs = csr_matrix((closeness, part.indices, part.indptr), part.shape)
            sums = (pairs @ self.matrix).tocoo()
            row = sums.row + rows.start
            own = sums.col == self.labels[row]
            near[row[own]] += sums.data[own]
            np.maximum.at(far, row[~own], (sums.data / self.sizes[sums.col])[~own])
        near = fill - near / np.maximum(1, self.sizes[self.labels] - 1)
        return np.where(self.counts, near, 0), np.where(self.counts, fill - far, 0)
