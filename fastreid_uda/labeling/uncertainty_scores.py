"""How well an uncertainty tells wrong labels from right ones, where identities exist."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from .types import OUTLIER


def score_uncertainty(
    uncertainty: np.ndarray, clusters: np.ndarray, identities: np.ndarray | None = None
) -> dict[str, float]:
    """What the uncertainties of a round are like.

    Args:
        uncertainty: (N,), NaN where it was not measured.
        clusters: (N,) int64, the labels as the clusterer made them, OUTLIER for images without one.
        identities: (N,) true identities, -1 for images that have none, or None.

    Returns:
        `uncertainty/mean` over the measured images; with identities `uncertainty/right` and
        `uncertainty/wrong`, the means over the images with right and wrong labels, and
        `uncertainty/auc`: the probability that an image with a wrong label is more uncertain than
        one with a right label, ties counting half. What has no image is missing.
    """
    groups = {"mean": uncertainty[~np.isnan(uncertainty)]}
    scores = {}
    if identities is not None:
        right, wrong = groups["right"], groups["wrong"] = right_and_wrong(
            uncertainty, clusters, identities
        )
        if len(right) and len(wrong):
            is_wrong = np.repeat([0, 1], [len(right), len(wrong)])
            scores["uncertainty/auc"] = float(
                roc_auc_score(is_wrong, np.concatenate([right, wrong]))
            )
    means = {name: values.mean(dtype=np.float64) for name, values in groups.items() if len(values)}
    return scores | {f"uncertainty/{name}": float(mean) for name, mean in means.items()}


def right_and_wrong(
    uncertainty: np.ndarray, clusters: np.ndarray, identities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The uncertainties of the images with right labels, and of those with wrong ones.

    Images without uncertainty, cluster or identity are in neither.

    Args:
        uncertainty: (N,), NaN where it was not measured.
        clusters: (N,) int64, OUTLIER for images without one.
        identities: (N,) integers, -1 for images that have none.
    """
    known = (clusters != OUTLIER) & (identities != OUTLIER)
    measured = known & ~np.isnan(uncertainty)
    right = has_majority_identity(clusters, identities)
    return uncertainty[measured & right], uncertainty[measured & ~right]


def has_majority_identity(clusters: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """(N,) bool: the images whose identity is the most frequent one of their cluster.

    The smallest of several that are equally frequent. An image without a cluster or an identity
    (-1) takes no part and is False.

    Args:
        clusters: (N,) int64.
        identities: (N,) integers.
    """
    known = (clusters != OUTLIER) & (identities != OUTLIER)
    pairs, group, counts = np.unique(
        np.stack([clusters[known], identities[known]]),
        axis=1,
        return_inverse=True,
        return_counts=True,
    )
    # The groups of each cluster, most frequent first, then by identity.
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    is_majority = np.zeros(len(counts), dtype=bool)
    is_majority[order[np.unique(pairs[0][order], return_index=True)[1]]] = True
    right = np.zeros(len(clusters), dtype=bool)
    right[known] = is_majority[group.ravel()]
    return right
