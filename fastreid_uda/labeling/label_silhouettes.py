"""How well the images of a round sit in their clusters, without identities and at little cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .pairwise import PairwiseDistances
from .row_distances import slices
from .silhouette import stored_silhouettes
from .types import OUTLIER, class_means

OF_PAIRS, OF_CENTROIDS = "silhouette", "silhouette/centroids"
"""What the entries of a record are called: measured on pairs of images, or on centroids."""

_ROWS = 1024


@dataclass(frozen=True)
class LabelSilhouettes:
    """The silhouettes of the images of one view.

    Attributes:
        kind: `OF_PAIRS` or `OF_CENTROIDS`.
        clusters: (N,) float32 in [-1, 1], in the clusters that the clusterer made; NaN for images
            in none.
        labels: (N,) float32, likewise of the refined labels.
    """

    kind: str
    clusters: np.ndarray
    labels: np.ndarray

    @property
    def of_images(self) -> np.ndarray:
        """(N,) float32: of its label, or of the cluster that a refiner took the image out of."""
        return np.where(np.isnan(self.labels), self.clusters, self.labels)

    def expand(self, rows: np.ndarray) -> LabelSilhouettes:
        """Those of a subset as those of all images, which are selected by a mask (M,)."""
        both = np.full((2, len(rows)), np.nan, dtype=np.float32)
        both[:, rows] = self.clusters, self.labels
        return LabelSilhouettes(self.kind, *both)


def label_silhouettes(
    features: np.ndarray,
    distances: PairwiseDistances | None,
    eps: float | None,
    clusters: np.ndarray,
    labels: np.ndarray,
) -> LabelSilhouettes:
    """The silhouettes of the labels of one view, by what its distances allow.

    * Distances and a radius: on the graph of the pairs within eps, which is what DBSCAN sees. All
      other pairs are at the distance `fill` (Jaccard: 1), or at eps where all distances are known
      (cosine, Euclidean). It is the same whether the stored pairs end at eps or farther away.
    * Distances without a radius, of which the large ones are all the same (HDBSCAN on Jaccard): on
      all pairs.
    * Else (k-means; HDBSCAN on cosine or Euclidean distances) the simplified silhouette: see
      `centroid_silhouettes`. All pairs would cost as much as finding neighbours.

    Args:
        features: (N, D) float32, as they were clustered.
        distances: between them, or None.
        eps: the radius, or None.
        clusters: (N,) int64, as the clusterer made them.
        labels: (N,) int64, the refined ones.
    """
    if distances is not None and eps is not None:
        fill = eps if math.isnan(distances.fill) else distances.fill
        graph = distances.within(eps)
    elif distances is not None and not math.isnan(distances.fill):
        fill = distances.fill
        graph = distances.below(fill)
    else:
        graph, fill = None, math.nan

    def measure(labels: np.ndarray) -> np.ndarray:
        if graph is None:
            values = centroid_silhouettes(features, labels)
        else:
            values = stored_silhouettes(graph, fill, labels)
        return np.where(labels == OUTLIER, np.nan, values).astype(np.float32)

    of_clusters = measure(clusters)
    of_labels = of_clusters if np.array_equal(clusters, labels) else measure(labels)
    return LabelSilhouettes(OF_CENTROIDS if graph is None else OF_PAIRS, of_clusters, of_labels)


def centroid_silhouettes(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The simplified silhouette: (b - a) / max(a, b) of distances to centroids, O(N K D).

    a is the Euclidean distance to the mean of the own cluster, b that to the nearest other mean. As
    an image is part of its own mean, the values are higher than those of pairs, most so in small
    clusters.

    Reference: Hruschka, de Castro and Campello, "Evolutionary Algorithms for Clustering
    Gene-Expression Data", ICDM 2004.

    Args:
        features: (N, D) float32.
        labels: (N,) int64.

    Returns:
        (N,) float64 in [-1, 1]; 0 for images in no cluster, images that are alone in theirs, and
        everywhere if there are fewer than two clusters.
    """
    values = np.zeros(len(labels))
    used, sizes = np.unique(labels[labels != OUTLIER], return_counts=True)
    if len(used) < 2:
        return values
    origin = features.mean(axis=0, dtype=np.float64).astype(np.float32)  # keeps squares small
    means = class_means(features, labels, int(used[-1]) + 1)[used] - origin
    norms = np.einsum("kd,kd->k", means, means)
    own = np.searchsorted(used, labels)
    counts = (labels != OUTLIER) & (sizes[np.minimum(own, len(used) - 1)] > 1)
    for rows in slices(len(labels), _ROWS):
        kept = np.flatnonzero(counts[rows]) + rows.start
        if not len(kept):
            continue
        x = features[kept] - origin
        squares = np.einsum("nd,nd->n", x, x)[:, None] + norms - 2 * (x @ means.T)
        distances = np.sqrt(np.maximum(squares, 0), dtype=np.float64)
        place = np.arange(len(kept)), own[kept]
        near = distances[place]
        distances[place] = np.inf
        far = distances.min(axis=1)
        larger = np.maximum(near, far)
        values[kept] = np.divide(far - near, larger, out=np.zeros_like(near), where=larger > 0)
    return values
