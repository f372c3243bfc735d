"""How much clusters depend on the radius: the reliability criterion of SpCL.

Reference: Ge, Zhu, Chen, Zhao and Li, "Self-paced Contrastive Learning with Hybrid Memory for
Domain Adaptive Object Re-ID", NeurIPS 2020. Code of the authors:
https://github.com/yxgeee/SpCL, examples/spcl_train_uda.py, where three N x N arrays are compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .types import OUTLIER


class Reliability(NamedTuple):
    """The scores of N images.

    Attributes:
        independence: (N,) float64 in (0, 1], R_indep: 1 if a larger radius leaves the cluster of
            the image as it is.
        compactness: (N,) float64 in (0, 1], R_comp: 1 if a smaller radius does.
    """

    independence: np.ndarray
    compactness: np.ndarray


def reliability(labels: np.ndarray, tight: np.ndarray, loose: np.ndarray) -> Reliability:
    """R_indep and R_comp of all images.

        R_indep(i) = |I(i) and I_loose(i)| / |I(i) or I_loose(i)|
        R_comp(i) = |I(i) and I_tight(i)| / |I(i) or I_tight(i)|

    with I(i) the cluster of image i at the radius, and I_loose, I_tight those at a larger and at a
    smaller one. As in the authors' code an outlier is a cluster of its own, in all three.

    Args:
        labels: (N,) int64 in {OUTLIER} and 0, 1, ..., the clusters at the radius.
        tight: likewise, at a smaller radius.
        loose: likewise, at a larger radius.
    """
    return Reliability(overlap(labels, loose), overlap(labels, tight))


def overlap(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The intersection over union of the two clusters of each image, (N,) float64 in (0, 1].

    Args:
        labels: (N,) int64 in {OUTLIER} and 0, 1, ...; outliers are clusters of their own.
        others: likewise, other clusters of the same images.
    """
    labels, others = _outliers_alone(labels), _outliers_alone(others)
    sizes, other_sizes = np.bincount(labels)[labels], np.bincount(others)[others]
    pairs = labels * (others.max(initial=0) + 1) + others
    _, cell, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    common = counts[cell]
    result: np.ndarray = common / (sizes + other_sizes - common)
    return result


def _outliers_alone(labels: np.ndarray) -> np.ndarray:
    """The same clusters, with a label of its own for every outlier."""
    alone = labels == OUTLIER
    result = labels.astype(np.int64)
    result[alone] = labels.max(initial=OUTLIER) + 1 + np.arange(np.count_nonzero(alone))
    return result
