"""What a labeling looks like: counts, stability between rounds, and scores where identities exist.

Nothing here feeds back into labels or training; identities are used to report, never to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_matrix
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from .types import OUTLIER, PseudoLabels

if TYPE_CHECKING:
    from .pipeline import Labeling


def describe_labeling(
    labeling: Labeling,
    camera_ids: np.ndarray | None = None,
    identities: np.ndarray | None = None,
    previous: Mapping[str, PseudoLabels] | None = None,
) -> dict[str, Any]:
    """The record of a round: counts of the first view, quality of all views.

    Args:
        labeling: of the round.
        camera_ids: (N,) or None.
        identities: (N,) true identities or None; they are scored against, nothing else.
        previous: view -> labels of the round before.

    Returns:
        `clusters`, `outliers`, `kept`, `eps` (None without a radius), `near_eps`, `seconds` (stage
        -> duration) and `quality`; further views have their name before each quality: "top/nmi".
    """
    first, *_ = labeling.labels
    counts = describe_labels(labeling.labels[first], camera_ids)
    record: dict[str, Any] = {name: counts.pop(name) for name in ("clusters", "outliers", "kept")}
    quality: dict[str, float] = {}
    for view, part in labeling.labels.items():
        scores = counts if view == first else describe_labels(part, camera_ids)
        if previous and view in previous:
            scores |= label_stability(previous[view].labels, part.labels)
        if identities is not None:
            scores |= score_against_identities(part.labels, identities)
        prefix = "" if view == first else f"{view}/"
        quality |= {prefix + name: value for name, value in scores.items()}
    return record | {
        "eps": labeling.eps.get(first),
        "near_eps": labeling.near_eps.get(first, 0),
        "seconds": dict(labeling.seconds),
        "quality": quality,
    }


def describe_labels(labels: PseudoLabels, camera_ids: np.ndarray | None) -> dict[str, float]:
    """Counts that need no ground truth.

    Returns:
        `clusters` (with at least one image), `outliers`, `kept` (images), `largest` (images in the
        largest cluster) and, with camera ids, `cross_camera` (share of the clusters seen by two or
        more cameras, in [0, 1]).
    """
    kept = labels.kept
    clusters, sizes = np.unique(labels.labels[kept], return_counts=True)
    counts: dict[str, float] = {
        "clusters": len(clusters),
        "outliers": int((~kept).sum()),
        "kept": int(kept.sum()),
        "largest": int(sizes.max(initial=0)),
    }
    if camera_ids is not None and len(clusters):
        pairs = np.unique(np.stack([labels.labels[kept], camera_ids[kept]]), axis=1)
        cameras = np.unique(pairs[0], return_counts=True)[1]
        counts["cross_camera"] = float((cameras >= 2).mean())
    return counts


def label_stability(previous: np.ndarray, current: np.ndarray) -> dict[str, float]:
    """How little the labels changed since the round before.

    Args:
        previous: (N,) labels of the round before, OUTLIER for images left out.
        current: (N,) labels of this round.

    Returns:
        `stability_ari`: the adjusted Rand index on the images kept in both rounds (0 if there are
        none); `kept_change`: the change of the number of kept images, relative to the round before.
    """
    both = (previous != OUTLIER) & (current != OUTLIER)
    before, now = int((previous != OUTLIER).sum()), int((current != OUTLIER).sum())
    ari = adjusted_rand_score(previous[both], current[both]) if both.any() else 0.0
    return {"stability_ari": float(ari), "kept_change": abs(now - before) / max(1, before)}


def score_against_identities(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    """Agreement of the kept labels with the true identities.

    Args:
        labels: (N,) int64, OUTLIER for images left out, which take no part.
        identities: (N,) true identities.

    Returns:
        `nmi`, `ari` (adjusted Rand index), `purity` (share of images whose identity is their
        cluster's most frequent one), `pair_precision`, `pair_recall` and `pair_f1` (of the
        statement "these two images show one person", over all pairs of kept images); all in
        [0, 1] except `ari`, which may be negative. Empty if no image is kept.
    """
    kept = labels != OUTLIER
    if not kept.any():
        return {}
    _, cluster = np.unique(labels[kept], return_inverse=True)
    _, person = np.unique(identities[kept], return_inverse=True)
    table = coo_matrix((np.ones(len(cluster)), (cluster, person))).tocsr()
    table.sum_duplicates()
    together = _pairs(table.data)
    in_clusters = _pairs(np.asarray(table.sum(axis=1)))
    in_persons = _pairs(np.asarray(table.sum(axis=0)))
    precision = together / in_clusters if in_clusters else 0.0
    recall = together / in_persons if in_persons else 0.0
    return {
        "nmi": float(normalized_mutual_info_score(person, cluster)),
        "ari": float(adjusted_rand_score(person, cluster)),
        "purity": float(table.max(axis=1).sum() / len(cluster)),
        "pair_precision": precision,
        "pair_recall": recall,
        "pair_f1": 2 * precision * recall / (precision + recall) if together else 0.0,
    }


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())
