"""How doubtful the label of an image is, by a classifier that has the centroids for its weights.

That classifier, external in the sense that no network has it, gives an image with the feature f the
class probabilities p = softmax(scale * W f), W the (K, D) centroids. All functions work on some
rows at a time and never hold an N x K array. Products are in float32, everything after them is in
float64: with unit rows of 2048 dimensions a result is within 1e-6 * scale of that of float64
products.

They take the labels as `PseudoLabels` and give (N,) float64, NaN for outliers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import logsumexp, softmax, xlogy

from .. import compiled
from .row_distances import slices
from .types import OUTLIER, PseudoLabels

_BLOCK_ENTRIES = 1 << 22
"""Of an array (rows, K) or (rows, D): 16 MB in float32."""

_SUM_TERMS = 512
"""Dimensions of one float32 product."""

_KERNEL_ROWS = 64


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
    for rows in _blocks(labels, weights):
        scores = _Scores(features[rows], weights, scale)
        expected = rest * scores.sums + (peak - rest) * scores.at(classes[rows])
        divergence[rows] = negative_entropy - expected + scores.log_sum_exp()
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
        scores, dashed = (_Scores(x[rows], weights, scale) for x in (features, others))
        # sum_k p_k (log p_k - log p'_k)
        difference, logarithm = scores.expected_difference(dashed)
        divergence[rows] = difference - (logarithm - dashed.log_sum_exp())
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
    """The weights (K', D) float32 and, for each image, the row of its label, (N,).

    K' < K only where a class has neither an image nor a centroid: a zero row is no class, but would
    take its share of every p.
    """
    sizes = np.bincount(labels.labels[labels.kept], minlength=labels.num_classes)
    present = (sizes > 0) | np.any(labels.centroids, axis=1)
    rows = np.append(np.cumsum(present) - 1, OUTLIER)  # label -1 finds the last entry
    return labels.centroids[present].astype(np.float32), rows[labels.labels]


def _blocks(labels: PseudoLabels, weights: np.ndarray) -> Iterator[np.ndarray]:
    """The numbers of the images that have a label, some at a time."""
    kept = np.flatnonzero(labels.kept)
    for part in slices(len(kept), max(1, _BLOCK_ENTRIES // max(1, *weights.shape))):
        yield kept[part]


class _Scores:
    """The scores of some images, (B, K) at a time, of which a few numbers of each row are asked.

    Args:
        features: (B, D).
        weights: (K, D) float32, K >= 1.
        scale: of the scores.

    Attributes:
        sums: (B,) float64, over all classes.
    """

    def __init__(self, features: np.ndarray, weights: np.ndarray, scale: float) -> None:
        self._scale = scale
        self._products = _products(features.astype(np.float32, copy=False), weights)
        if compiled.available():
            from .kernels.uncertainty import sums_and_maxima

            self.sums = np.empty(len(features))
            self._maxima = np.empty(len(features), dtype=np.float32)
            self._over_rows(sums_and_maxima, self._products, self.sums, self._maxima)
        else:
            self.sums = self._products.sum(axis=1, dtype=np.float64)
        self.sums *= scale

    def at(self, classes: np.ndarray) -> np.ndarray:
        """(B,) float64: the score of one class of each image, (B,)."""
        chosen = self._products[np.arange(len(classes)), classes]
        return self._scale * chosen.astype(np.float64)

    def log_sum_exp(self) -> np.ndarray:
        """(B,) float64."""
        if not compiled.available():
            return logsumexp(self._in_float64(), axis=1)
        from .kernels.uncertainty import log_sum_exp

        result = np.empty(len(self._products))
        self._over_rows(log_sum_exp, self._products, self._maxima, self._scale, result)
        return result

    def expected_difference(self, others: _Scores) -> tuple[np.ndarray, np.ndarray]:
        """These scores minus others, weighted with the softmax of these, and `log_sum_exp`."""
        if not compiled.available():
            scores = self._in_float64()
            differences = scores - others._in_float64()
            expected = np.einsum("nk,nk->n", softmax(scores, axis=1), differences)
            return expected, logsumexp(scores, axis=1)
        from .kernels.uncertainty import expected_difference

        expected, logarithms = np.empty((2, len(self._products)))
        products = self._products, others._products
        self._over_rows(
            expected_difference, *products, self._maxima, self._scale, expected, logarithms
        )
        return expected, logarithms

    def _in_float64(self) -> np.ndarray:
        return self._scale * self._products.astype(np.float64)

    def _over_rows(self, kernel: Callable[..., None], *arguments: np.ndarray | float) -> None:
        compiled.over_rows(
            lambda start, stop: kernel(*arguments, start, stop), len(self._products), _KERNEL_ROWS
        )


def _products(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, K) float32: features (B, D) @ weights (K, D) transposed, with shorter sums.

    Within a long sum every term is rounded to the size of the whole; several short sums lose less.
    """
    products = np.zeros((len(features), len(weights)), dtype=np.float32)
    for part in slices(features.shape[1], _SUM_TERMS):
        products += features[:, part] @ weights[:, part].T
    return products


def uncertainty_memory(num_images: int, dimension: int, num_classes: int) -> int:
    """Bytes that any of the functions takes above its arguments, an upper estimate."""
    rows = min(num_images, max(1, _BLOCK_ENTRIES // max(1, num_classes, dimension)))
    # Two gathered blocks of features, two of products and one of products that are added.
    blocks = 4 * rows * (2 * dimension + 3 * num_classes)
    if not compiled.available():
        blocks += 4 * 8 * rows * num_classes
    buffers = 32 << 20  # of the library that multiplies
    return blocks + buffers + 4 * num_classes * dimension + 48 * num_images
