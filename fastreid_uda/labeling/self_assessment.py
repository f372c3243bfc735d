"""NPLP's self-assessment score: how pure a cluster looks by the distances alone."""

from __future__ import annotations

import numpy as np

from .pairwise import PairwiseDistances
from .types import OUTLIER


def image_scores(distances: PairwiseDistances, labels: np.ndarray) -> np.ndarray:
    """How much closer each image is to its own cluster than to all others, the terms of Eq. 8.

        a_i = the mean distance to the other images of the cluster           (Eq. 6)
        b_i = the mean distance to the images of all other clusters together (Eq. 7)
        s_i = (b_i - a_i) / max(a_i, b_i)

    Unlike the b of the silhouette, which looks at the nearest other cluster only. Outliers are in
    no cluster and have no part in b. Where a_i or b_i does not exist (an image alone in its
    cluster, a single cluster), or both are 0 (identical images), s_i is 0.

    Reference: Liang, Lv, Li and Liu, "NPLP: A Noisy Pseudo-Label Processing Approach for
    Unsupervised Domain-Adaptive Person Re-ID", III-C.

    Args:
        distances: between N images.
        labels: (N,) int64 in {OUTLIER} and 0, 1, ...

    Returns:
        (N,) float64 in [-1, 1] up to rounding, NaN for outliers.
    """
    kept = labels != OUTLIER
    own, everyone = (sums[kept] for sums in distances.class_sums(labels))
    sizes = np.bincount(labels[kept])[labels[kept]]
    others = len(sizes) - sizes
    a = own / np.maximum(sizes - 1, 1)
    b = (everyone - own) / np.maximum(others, 1)
    larger = np.maximum(a, b)
    defined = (sizes > 1) & (others > 0) & (larger > 0)
    scores = np.full(len(labels), np.nan)
    scores[kept] = np.where(defined, (b - a) / np.where(defined, larger, 1), 0)
    return scores


def cluster_scores(distances: PairwiseDistances, labels: np.ndarray) -> np.ndarray:
    """S_k, the mean of `image_scores` over each cluster (Eq. 8); small for an impure cluster.

    Args:
        distances: between N images.
        labels: (N,) int64 in {OUTLIER} and 0..K-1.

    Returns:
        (K,) float64, finite; 0 for a cluster without images.
    """
    kept = labels != OUTLIER
    scores = image_scores(distances, labels)
    return np.bincount(labels[kept], scores[kept]) / np.maximum(np.bincount(labels[kept]), 1)
