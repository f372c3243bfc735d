"""What a labeling looks like: counts, stability between rounds, and scores where identities exist.

Nothing here feeds back into labels or training; identities are used to report, never to decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

from .identity_scores import (
    label_accuracy,
    label_consistency,
    noise_shares,
    score_against_identities,
    score_pairs_by_camera,
)
from .label_silhouettes import LabelSilhouettes
from .types import OUTLIER, PseudoLabels, kept_in_all, weights_in_all
from .uncertainty_scores import score_uncertainty

if TYPE_CHECKING:
    from .pipeline import Labeling


_COUNTS = ("clusters", "outliers", "kept")


def describe_labeling(
    labeling: Labeling,
    camera_ids: np.ndarray | None = None,
    identities: np.ndarray | None = None,
    previous: Mapping[str, PseudoLabels] | None = None,
) -> dict[str, Any]:
    """The record of a round: counts of the training set, quality of all views.

    Args:
        labeling: of the round.
        camera_ids: (N,) or None.
        identities: (N,) true identities or None; they are scored against, nothing else.
        previous: view -> labels of the round before.

    Returns:
        `kept` and `outliers` (images inside and outside the training set, which are the images kept
        in all views), `clusters` (of the first view, with at least one image of the training set),
        `eps` (of the first view, None without a radius), `near_eps`, `seconds` (stage -> duration),
        `kept_after` (what the clusterer and each filter left of each view, where it is known) and
        `peak_mb` (stage -> the most memory, in MiB, that the process had had when it ended) and
        `quality`. In it, further views have their name before each entry: "top/nmi". With two
        or more views it also has the three counts of each view by itself ("global/kept"), the
        `consistency` of the refined labels and `clusters/consistency`, that of the raw ones; with
        identities always `accuracy` and `clusters/accuracy`. `silhouette` (or, without distances,
        `silhouette/centroids`) is the mean over the images with labels, `clusters/silhouette` over
        those in clusters, see `label_silhouettes`. Where a refiner measured how uncertain
        the labels are, it has what `score_uncertainty` says of all images of the first view,
        trained on or not; where not all images of the training set weigh 1, `weight/mean`; and
        `single_image`, the classes that have one image in the training set, if there are any.
    """
    first, *_ = labeling.labels
    trained = labeling.labels[first].drop(~kept_in_all(labeling.labels))
    counts = describe_labels(trained, camera_ids)
    quality = _describe_views(labeling, camera_ids, identities, previous or {})
    if len(labeling.labels) > 1:
        quality |= consistencies(labeling.labels)
        quality["clusters/consistency"] = consistencies(labeling.clusters)["consistency"]
    if trained.uncertainty is not None:
        raw = labeling.clusters[first].labels
        quality |= score_uncertainty(trained.uncertainty, raw, identities)
    single = int(np.count_nonzero(np.bincount(trained.labels[trained.kept]) == 1))
    if single:
        quality["single_image"] = single
    weights = weights_in_all(labeling.labels)[trained.kept]
    if (weights != 1).any():
        quality["weight/mean"] = float(weights.mean(dtype=np.float64))
    return {name: counts[name] for name in _COUNTS} | {
        "eps": labeling.eps.get(first),
        "near_eps": labeling.near_eps.get(first, 0),
        "seconds": dict(labeling.seconds),
        **({"peak_mb": dict(labeling.peak_mb)} if labeling.peak_mb else {}),
        **({"kept_after": labeling.kept_after} if labeling.kept_after else {}),
        "quality": quality,
    }


def _describe_views(
    labeling: Labeling,
    camera_ids: np.ndarray | None,
    identities: np.ndarray | None,
    previous: Mapping[str, PseudoLabels],
) -> dict[str, float]:
    """What `describe_labeling` says about each view by itself."""
    others = list(labeling.labels)[1:]
    quality: dict[str, float] = {}
    for view, part in labeling.labels.items():
        scores = describe_labels(part, camera_ids)
        counts = {f"{view}/{name}": scores.pop(name) for name in _COUNTS}
        if view in previous:
            scores |= label_stability(previous[view].labels, part.labels)
            scores["changed"] = changed_images(previous[view].labels, part.labels)
        if view in labeling.silhouettes:
            scores |= _mean_silhouettes(labeling.silhouettes[view])
        if identities is not None:
            scores |= score_against_identities(part.labels, identities)
            scores |= noise_shares(part.labels, identities)
            if camera_ids is not None:
                scores |= score_pairs_by_camera(part.labels, identities, camera_ids)
            raw = labeling.clusters[view].labels
            scores["clusters/accuracy"] = label_accuracy(raw, identities)
        if view in others and view in labeling.eps:
            scores["eps"] = labeling.eps[view]
        prefix = f"{view}/" if view in others else ""
        quality |= {prefix + name: value for name, value in scores.items()}
        quality |= counts if others else {}
    return quality


def _mean_silhouettes(silhouettes: LabelSilhouettes) -> dict[str, float]:
    """Of the labels and of the clusters, each if an image has one."""
    of_each = {"": silhouettes.labels, "clusters/": silhouettes.clusters}
    return {
        prefix + silhouettes.kind: float(np.nanmean(values, dtype=np.float64))
        for prefix, values in of_each.items()
        if not np.isnan(values).all()
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


def holds_too_many(cluster: int, images: int) -> bool:
    """Whether a cluster is so large that the clustering has probably failed: more than a tenth.

    Args:
        cluster: images of the largest cluster.
        images: N, all images. Of up to 100 a tenth can be one person.
    """
    return images > 100 and cluster > 0.1 * images


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


def changed_images(previous: np.ndarray, current: np.ndarray) -> int:
    """How many images are with others than before: in another cluster, or left out now or then.

    0 if and only if the two are the same but for the numbers of the clusters.

    Args:
        previous: (N,) labels of the round before, OUTLIER for images left out.
        current: (N,) labels of this round.
    """
    _, pair, together = np.unique(
        np.stack([previous, current]), axis=1, return_inverse=True, return_counts=True
    )
    (_, before, of_before), (_, now, of_now) = (
        np.unique(labels, return_inverse=True, return_counts=True) for labels in (previous, current)
    )
    both = together[pair.ravel()]
    same = (both == of_before[before]) & (both == of_now[now])
    left_out = (previous == OUTLIER) & (current == OUTLIER)
    same = np.where((previous == OUTLIER) | (current == OUTLIER), left_out, same)
    return int(np.count_nonzero(~same))


def consistencies(labels: Mapping[str, PseudoLabels]) -> dict[str, float]:
    """How far two or more views agree on who is together, in [0, 1].

    Returns:
        `consistency/<a>-<b>` of every pair of views and `consistency`, their mean: the "overall
        consistency" of He et al., SECRET, AAAI 2022, "Consistency Analysis".
    """
    pairs = {
        f"consistency/{a}-{b}": label_consistency(labels[a].labels, labels[b].labels)
        for a, b in itertools.combinations(labels, 2)
    }
    return {"consistency": sum(pairs.values()) / len(pairs), **pairs}
