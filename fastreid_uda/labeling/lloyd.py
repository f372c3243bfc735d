"""Lloyd's iterations of k-means, which look again only at what has changed.

A centroid whose images stay the same stays where it is, and so do the distances to it. After a few
iterations that holds for most centroids.

Reference: Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28, 1982.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import compiled
from .row_distances import slices, squared_norms

TOLERANCE = 1e-4
"""A run ends when the squared moves of the centroids, over the mean variance, sum to less."""

_BLOCK_ENTRIES = 1 << 21
"""Of an array (rows, centroids) or (rows, D) that is held at a time: 8 MB in float32."""

LLOYD_BLOCKS = 5 * 4 * _BLOCK_ENTRIES
"""Bytes of the blocks of `lloyd`: scores, gathered rows, and float64 rows on the way to sums."""


_FEW = 32
"""Chosen rows up to which our own product is faster than NumPy's, which packs all others first."""


class Clusters(NamedTuple):
    """The end of a run.

    Attributes:
        labels: (N,) int64, the nearest centroid; a centroid may have no image.
        inertia: the sum of the squared distances to them.
    """

    labels: np.ndarray
    inertia: float


def lloyd(
    features: np.ndarray, norms: np.ndarray, centroids: np.ndarray, max_iter: int
) -> Clusters:
    """Iterate from given centroids until no label changes, or the centroids hardly move.

    The rules are those of scikit-learn's KMeans(tol=TOLERANCE, algorithm="lloyd"), and so are the
    labels, up to rounding. A centroid without images moves to one of the images that are farthest
    from theirs.

    Args:
        features: (N, D) float32, best with a mean of zero: rounding grows with the norms.
        norms: (N,) float32, `squared_norms(features)`.
        centroids: (K, D) float32, K <= N.
        max_iter: at most so many iterations.
    """
    variance = float(norms.mean(dtype=np.float64)) - float(
        np.square(features.mean(axis=0, dtype=np.float64)).sum()
    )
    tolerance = TOLERANCE * variance / features.shape[1]
    nearest = _Nearest(features, centroids)
    means = _Means(features, len(centroids))
    moved = np.arange(len(centroids))
    previous = None
    for _ in range(max_iter):
        nearest.update(moved)
        if previous is not None and np.array_equal(nearest.labels, previous):
            break
        previous = nearest.labels.copy()
        moved, places = means.update(_without_empty(nearest, norms))
        shift = np.square(places - nearest.centroids[moved]).sum()
        nearest.centroids[moved] = places
        if shift <= tolerance:
            nearest.update(moved)
            break
    else:
        nearest.update(moved)
    return Clusters(nearest.labels, float(nearest.distances(norms).sum(dtype=np.float64)))


def products(features: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(M, N) float32: the products of M rows (M, D) with all rows (N, D), both contiguous.

    With and without compiled kernels they are equal up to the rounding of float32 sums.
    """
    if len(chosen) > _FEW or not compiled.available():
        # This order of the product is the fast one where the chosen rows are few.
        return np.ascontiguousarray((features @ chosen.T).T)
    from .kernels.kmeans import products as few_products

    out = np.empty((len(chosen), len(features)), dtype=np.float32)
    compiled.over_rows(
        lambda start, stop: few_products(features, chosen, out, start, stop), len(features), 512
    )
    return out


class _Nearest:
    """The nearest centroid of each image, kept up while centroids move.

    The score of an image and a centroid, |c|^2 / 2 - x . c, orders the centroids as the distance
    does. `_own` holds that of the nearest centroid, and `_others` a lower bound of all others.

    Attributes:
        centroids: (K, D) float32, own copy; rows are replaced before `update`.
        labels: (N,) int64.
    """

    def __init__(self, features: np.ndarray, centroids: np.ndarray) -> None:
        self._features = features
        self.centroids = centroids.astype(np.float32)
        self.labels = np.zeros(len(features), dtype=np.int64)
        self._own = np.empty(len(features), dtype=np.float32)
        self._others = np.full(len(features), np.inf, dtype=np.float32)
        longest = max(len(centroids), features.shape[1])
        self._block_rows = min(len(features), max(64, _BLOCK_ENTRIES // longest))
        self._scores = np.empty(self._block_rows * len(centroids), dtype=np.float32)

    def distances(self, norms: np.ndarray) -> np.ndarray:
        """(N,) float32 >= 0, squared, from the squared norms of the features."""
        return np.maximum(norms + 2 * self._own, 0)

    def update(self, moved: np.ndarray) -> None:
        """Find the nearest centroids again.

        Args:
            moved: the centroids that have been replaced, ascending; the first time, all.
        """
        if len(moved) == 0:
            return
        is_moved = np.zeros(len(self.centroids), dtype=bool)
        is_moved[moved] = True
        fixed = np.flatnonzero(~is_moved)
        undecided = [np.empty(0, dtype=np.int64)]
        for rows in slices(len(self._features), self._block_rows):
            first, low, second = self._two_nearest(self._features[rows], moved)
            labels, own, others = self.labels[rows], self._own[rows], self._others[rows]
            lost = is_moved[labels]  # images whose own centroid has moved
            own[lost] = np.inf
            # A centroid that has not moved may be nearer, but we have only the bound.
            unknown = lost & (low >= others) & (len(fixed) > 0)
            change = (low < own) | ((low == own) & (moved[first] < labels))
            others[:] = np.minimum(others, np.where(change, np.minimum(own, second), low))
            labels[change], own[change] = moved[first[change]], low[change]
            # Until they are decided, their own is the nearest of the moved ones.
            others[unknown] = second[unknown]
            undecided.append(np.flatnonzero(unknown) + rows.start)
        if len(fixed):
            self._decide(np.concatenate(undecided), fixed)

    def _decide(self, undecided: np.ndarray, fixed: np.ndarray) -> None:
        """Compare images with the centroids that have not moved."""
        for part in slices(len(undecided), self._block_rows):
            rows = undecided[part]
            first, low, second = self._two_nearest(self._features[rows], fixed)
            labels, own, others = self.labels[rows], self._own[rows], self._others[rows]
            change = (low < own) | ((low == own) & (fixed[first] < labels))
            self._others[rows] = np.where(change, np.minimum(own, second), np.minimum(others, low))
            self._own[rows] = np.where(change, low, own)
            self.labels[rows] = np.where(change, fixed[first], labels)

    def _two_nearest(
        self, block: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which of the chosen centroids is nearest, (B,) int64, its score and the next, (B,)."""
        all_of_them = len(chosen) == len(self.centroids)
        centroids = self.centroids if all_of_them else self.centroids[chosen]
        scores = self._scores[: len(block) * len(chosen)].reshape(len(block), len(chosen))
        if len(chosen) > _FEW:
            np.matmul(block, centroids.T, out=scores)
        else:
            scores[:] = products(block, centroids).T
        np.subtract(squared_norms(centroids) / 2, scores, out=scores)
        first = np.empty(len(block), dtype=np.int64)
        low, second = np.empty((2, len(block)), dtype=np.float32)
        if compiled.available():
            from .kernels.kmeans import two_smallest

            compiled.over_rows(
                lambda start, stop: two_smallest(scores, first, low, second, start, stop),
                len(block),
                512,
            )
        else:
            rows = np.arange(len(block))
            scores.argmin(axis=1, out=first)
            low[:] = scores[rows, first]
            scores[rows, first] = np.inf
            scores.min(axis=1, out=second)
        return first, low, second


class _Means:
    """The mean of the images of each label, from sums that follow the changes of labels.

    Args:
        features: (N, D) float32.
        num_clusters: K.
    """

    def __init__(self, features: np.ndarray, num_clusters: int) -> None:
        self._features = features
        self._labels: np.ndarray | None = None
        self._sums = np.zeros((num_clusters, features.shape[1]))
        self._counts = np.zeros(num_clusters, dtype=np.int64)

    def update(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take new labels (N,).

        Returns:
            The labels with other images than before, ascending, and their means, (M, D) float32;
            labels without images are left out.
        """
        before = self._labels
        self._labels = labels
        if before is None:
            self._add(np.arange(len(labels)), labels, 1)
            touched = np.unique(labels)
        else:
            changed = np.flatnonzero(labels != before)
            self._add(changed, before[changed], -1)
            self._add(changed, labels[changed], 1)
            touched = np.union1d(before[changed], labels[changed])
        touched = touched[self._counts[touched] > 0]
        means = self._sums[touched] / self._counts[touched, None]
        return touched, means.astype(np.float32)

    def _add(self, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        """Add the features of some images to the sums of their labels, or take them away."""
        order = np.argsort(labels, kind="stable")
        for part in slices(len(rows), max(1, _BLOCK_ENTRIES // (2 * self._features.shape[1]))):
            chosen = order[part]
            names, starts = np.unique(labels[chosen], return_index=True)
            block = self._features[rows[chosen]].astype(np.float64)
            self._sums[names] += sign * np.add.reduceat(block, starts, axis=0)
        self._counts += sign * np.bincount(labels, minlength=len(self._counts))


def _without_empty(nearest: _Nearest, norms: np.ndarray) -> np.ndarray:
    """The labels, but each empty cluster takes one of the images farthest from their centroids."""
    labels = nearest.labels.copy()
    empty = np.flatnonzero(np.bincount(labels, minlength=len(nearest.centroids)) == 0)
    if len(empty):
        farthest = np.argsort(-nearest.distances(norms), kind="stable")[: len(empty)]
        labels[farthest] = empty
    return labels
