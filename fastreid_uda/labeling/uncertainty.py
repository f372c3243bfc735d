"""How doubtful the label of an image is, by a classifier that has the centroids for its weights.

That classifier, external in the sense that no network has it, gives an image with the feature f the
class probabilities p = softmax(scale * W f), W the (K, D) centroids. All functions work on some
rows at a time and never hold an N x K array; sums are in float64.

They take the labels as `PseudoLabels` and give (N,) float64, NaN for outliers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import logsumexp, xlogy

from .neighbors import slices
from .types import OUTLIER, PseudoLabels

_BLOCK_ENTRIES = 1 << 22
"""Of an array (rows, K) or (rows, D): 32 MB in float64."""


def divergence_from_ideal(
    features: np.ndarray, labels: PseudoLabels, scale: float, peak: float
) -> np.ndarray:
    """KL(q || p) of each image, in nats: 0 or more, large where the label is doubtful.

    q is the ideal distribution of the label y: `peak` for y, the rest shared evenly by the other
    classes. With `peak` 1 it is the cross-entropy. It is smallest, 0, at p = q: more confidence
    than `peak` costs a little. With a single class it is 0.

    Args:
        features: (N, D).
        labels: of the same images.
        scale: of the scores, above 0.
        peak: in (0, 1].
    """
    weights, classes = _classifier(labels)
    divergence = np.full(len(features), np.nan)
    if len(weights) < 2:
        divergence[labels.kept] = 0
        return divergence
    # Of s = scale * W f only three numbers are needed: with log p_k = s_k - log sum_j exp(s_j),
    #   sum_k q_k log p_k = rest * sum_k s_k + (peak - rest) * s_y - log sum_j exp(s_j).
    rest = (1 - peak) / (len(weights) - 1)
    negative_entropy = xlogy(peak, peak) + xlogy(1 - peak, rest)
    sum_of_weights = weights.sum(axis=0)
    for rows in _blocks(labels, weights):
        f = features[rows].astype(np.float64)
        scores = scale * (f @ weights.T)
        score_of_label = scores[np.arange(len(rows)), classes[rows]]
        sum_of_scores = scale * (f @ sum_of_weights)
        expected = rest * sum_of_scores + (peak - rest) * score_of_label
        divergence[rows] = negative_entropy - expected + logsumexp(scores, axis=1)
    return np.maximum(divergence, 0)  # rounding; NaN stays


def divergence_between(
    features: np.ndarray, others: np.ndarray, labels: PseudoLabels, scale: float
) -> np.ndarray:
    """KL(p || p') of each image, in nats: p of its feature, p' of another feature of it.

    Args:
        features: (N, D).
        others: (N, D), of the same images by another network.
        labels: of the same images; outliers apart, only the centroids count.
        scale: of the scores, above 0.
    """
    weights, _ = _classifier(labels)
    divergence = np.full(len(features), np.nan)
    for rows in _blocks(labels, weights):
        log_p = _log_softmax(scale * (features[rows].astype(np.float64) @ weights.T))
        log_other = _log_softmax(scale * (others[rows].astype(np.float64) @ weights.T))
        divergence[rows] = np.einsum("nk,nk->n", np.exp(log_p), log_p - log_other)
    return np.maximum(divergence, 0)  # rounding; NaN stays


def distance_to_centroid(features: np.ndarray, labels: PseudoLabels) -> np.ndarray:
    """Euclidean distance of each image to the centroid of its label; in [0, 2] for unit rows.

    Args:
        features: (N, D).
        labels: of the same images.
    """
    distance = np.full(len(features), np.nan)
    for rows in _blocks(labels, labels.centroids):
        own = labels.centroids[labels.labels[rows]].astype(np.float64)
        distance[rows] = np.linalg.norm(features[rows] - own, axis=1)
    return distance


def _classifier(labels: PseudoLabels) -> tuple[np.ndarray, np.ndarray]:
    """The weights (K', D) float64 and, for each image, the row of its label, (N,).

    K' < K only where a class has neither an image nor a centroid: a zero row is no class, but would
    take its share of every p.
    """
    sizes = np.bincount(labels.labels[labels.kept], minlength=labels.num_classes)
    present = (sizes > 0) | np.any(labels.centroids, axis=1)
    rows = np.append(np.cumsum(present) - 1, OUTLIER)  # label -1 finds the last entry
    return labels.centroids[present].astype(np.float64), rows[labels.labels]


def _blocks(labels: PseudoLabels, weights: np.ndarray) -> Iterator[np.ndarray]:
    """The numbers of the images that have a label, some at a time."""
    kept = np.flatnonzero(labels.kept)
    for part in slices(len(kept), max(1, _BLOCK_ENTRIES // max(1, *weights.shape))):
        yield kept[part]


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - logsumexp(scores, axis=1, keepdims=True)
