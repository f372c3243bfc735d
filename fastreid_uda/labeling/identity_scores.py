"""Scores of labels against true identities, or against the labels of another view.

Nothing here feeds back into labels or training; identities are used to report, never to decide.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from .types import OUTLIER
from .uncertainty_scores import has_majority_identity


def label_consistency(first: np.ndarray, second: np.ndarray) -> float:
    """The mean of the accuracies of two label vectors (N,) against each other, in [0, 1]."""
    return (label_accuracy(first, second) + label_accuracy(second, first)) / 2


def label_accuracy(labels: np.ndarray, reference: np.ndarray) -> float:
    """The mean over clusters of the share of the cluster's most frequent reference label.

    Clusters count alike, whatever their size; `purity` is the mean over images. The paper (SECRET,
    "Consistency Analysis") does not say what becomes of outliers: here an image that is an outlier
    in either takes no part, and a cluster of such images does not count.

    Args:
        labels: (N,) int64, OUTLIER for images left out.
        reference: (N,) int64, labels of another view or identities.

    Returns:
        In [0, 1]; 0.0 if no image has both.
    """
    both = (labels != OUTLIER) & (reference != OUTLIER)
    if not both.any():
        return 0.0
    return float(_majority_shares(_table(labels[both], reference[both])).mean())


def score_against_identities(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    """Agreement of the kept labels with the true identities.

    Args:
        labels: (N,) int64, OUTLIER for images left out, which take no part.
        identities: (N,) true identities; an image with -1 has none and takes no part.

    Returns:
        `nmi`, `ari` (adjusted Rand index), `accuracy` (`label_accuracy`), `purity` (share of images
        whose identity is their cluster's most frequent one), `pair_precision`, `pair_recall`
        and `pair_f1` (of the statement "these two images show one person", over all pairs of kept
        images); all in [0, 1] except `ari`, which may be negative. Empty if no image is kept.
    """
    kept = (labels != OUTLIER) & (identities != OUTLIER)
    if not kept.any():
        return {}
    cluster, person = labels[kept], identities[kept]
    table = _table(cluster, person)
    together = _pairs(table.data)
    in_clusters = _pairs(np.asarray(table.sum(axis=1)))
    in_persons = _pairs(np.asarray(table.sum(axis=0)))
    precision = together / in_clusters if in_clusters else 0.0
    recall = together / in_persons if in_persons else 0.0
    return {
        "nmi": float(normalized_mutual_info_score(person, cluster)),
        "ari": float(adjusted_rand_score(person, cluster)),
        "accuracy": float(_majority_shares(table).mean()),
        "purity": float(table.max(axis=1).sum() / len(cluster)),
        "pair_precision": precision,
        "pair_recall": recall,
        "pair_f1": 2 * precision * recall / (precision + recall) if together else 0.0,
    }


def score_pairs_by_camera(
    labels: np.ndarray, identities: np.ndarray, camera_ids: np.ndarray
) -> dict[str, float]:
    """Pair precision and recall, of pairs in one camera and of pairs across cameras.

    As `pair_precision` and `pair_recall` of `score_against_identities`, of which these are the
    parts: pairs across cameras are the hard ones, and those that a query is searched for.

    Args:
        labels: (N,) int64, OUTLIER for images left out, which take no part.
        identities: (N,) true identities; an image with -1 has none and takes no part.
        camera_ids: (N,) integers.

    Returns:
        `pair_precision/within_camera`, `pair_recall/within_camera` and the same with
        `across_cameras`, in [0, 1]. A precision is missing where no such pair is in one cluster, a
        recall where no such pair shows one person.
    """
    kept = (labels != OUTLIER) & (identities != OUTLIER)
    cluster, person, camera = labels[kept], identities[kept], camera_ids[kept]
    everywhere, within = (
        [_pairs(np.unique(np.stack([*keys, *extra]), axis=1, return_counts=True)[1])
         for keys in ((cluster, person), (cluster,), (person,))]
        for extra in ((), (camera,))
    )  # fmt: skip
    across = [both - same for both, same in zip(everywhere, within, strict=True)]
    scores = {}
    for where, (together, in_clusters, in_persons) in (
        ("within_camera", within),
        ("across_cameras", across),
    ):
        if in_clusters:
            scores[f"pair_precision/{where}"] = together / in_clusters
        if in_persons:
            scores[f"pair_recall/{where}"] = together / in_persons
    return scores


def noise_shares(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    """What is wrong with the labels: people in one cluster, or one person in several.

    An image is *mixed* if its identity is not the most frequent one of its cluster, *fragmented* if
    its cluster is not the one with most images of its identity (of several alike, the smallest
    number counts as the most frequent). A stray image is both; of an identity that is split evenly
    without strangers half of the images are fragmented and none is mixed.

    Reference: Liang, Lv, Li and Liu, "NPLP: A Noisy Pseudo-Label Processing Approach for
    Unsupervised Domain-Adaptive Person Re-ID", I and Fig. 1: "assigning the same pseudo-label to
    different persons' images" and "splitting a person's images into different clusters". The paper
    counts neither; the shares are ours.

    Args:
        labels: (N,) int64, OUTLIER for images left out, which take no part.
        identities: (N,) true identities; an image with -1 has none and takes no part.

    Returns:
        Shares in [0, 1]: `noise/mixed` (1 - purity), `noise/fragmented` and `noise/both` of the
        images; `noise/mixed_clusters`, the clusters that hold two identities or more, of all
        clusters; `noise/fragmented_identities`, the identities that are in two clusters or more, of
        those that are in any. Empty if no image takes part.
    """
    kept = (labels != OUTLIER) & (identities != OUTLIER)
    if not kept.any():
        return {}
    mixed, fragmented = mixed_and_fragmented(labels, identities)
    held = np.diff(_table(labels[kept], identities[kept]).indptr)
    pieces = np.diff(_table(identities[kept], labels[kept]).indptr)
    number = int(kept.sum())
    return {
        "noise/mixed": float(mixed.sum() / number),
        "noise/fragmented": float(fragmented.sum() / number),
        "noise/both": float((mixed & fragmented).sum() / number),
        "noise/mixed_clusters": float((held > 1).mean()),
        "noise/fragmented_identities": float((pieces > 1).mean()),
    }


def mixed_and_fragmented(
    labels: np.ndarray, identities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool each, see `noise_shares`; False for images without a label or an identity."""
    kept = (labels != OUTLIER) & (identities != OUTLIER)
    mixed = kept & ~has_majority_identity(labels, identities)
    return mixed, kept & ~has_majority_identity(identities, labels)


def _table(rows: np.ndarray, columns: np.ndarray) -> csr_matrix:
    """How many images have a row label and a column label together, without empty rows."""
    _, row = np.unique(rows, return_inverse=True)
    _, column = np.unique(columns, return_inverse=True)
    table = coo_matrix((np.ones(len(row)), (row, column))).tocsr()
    table.sum_duplicates()
    return table


def _majority_shares(table: csr_matrix) -> np.ndarray:
    return table.max(axis=1).toarray().ravel() / np.asarray(table.sum(axis=1)).ravel()


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())
