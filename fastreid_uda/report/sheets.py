"""Which clusters and images of a round are shown: certain, doubtful, wrong, in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..labeling.types import OUTLIER
from ..labeling.uncertainty_scores import has_majority_identity
from .run_folder import RoundArrays

OF_A_SHEET = 10
"""Images of one cluster, at most: half of them certain, half not."""

_OF_A_PIECE = 4
_OF_A_SAMPLE = 4  # images that a cluster needs to be shown as an example


@dataclass(frozen=True)
class Groups:
    """The clusters of the first view of a round, and the images that were taken out of them.

    Attributes:
        arrays: of the round.
        owner: (N,) int64: the label of each image, or, where a refiner dropped it, the label that
            most of its cluster has; OUTLIER for all others.
        certainty: (N,) float, larger is surer, NaN where it is not known.
        measure: what `certainty` is: "uncertainty" (its negative), "silhouette", or "".
        right: (N,) bool: the identity is the most frequent one of the images kept in its group;
            False for images without identity; None if none is known.
    """

    arrays: RoundArrays
    owner: np.ndarray
    certainty: np.ndarray
    measure: str
    right: np.ndarray | None

    @property
    def kept(self) -> np.ndarray:
        """(N,) bool."""
        return self.arrays.labels[self.arrays.first_view] != OUTLIER

    def images(self, cluster: int) -> np.ndarray:
        """Its images, surest first, those of unknown certainty last."""
        rows = np.flatnonzero(self.owner == cluster)
        return rows[np.argsort(-self.certainty[rows], kind="stable")]


def group(arrays: RoundArrays) -> Groups:
    """The clusters of a round with all that is known of their images."""
    view = arrays.first_view
    labels, clusters = arrays.labels[view], arrays.clusters[view]
    owner = labels.copy()
    dropped = (labels == OUTLIER) & (clusters != OUTLIER)
    for cluster in np.unique(clusters[dropped]):
        left = labels[(clusters == cluster) & (labels != OUTLIER)]
        if len(left):
            owner[dropped & (clusters == cluster)] = np.bincount(left).argmax()
    certainty, measure = np.full(len(labels), np.nan), ""
    if view in arrays.silhouettes:
        certainty, measure = arrays.silhouettes[view].astype(np.float64), "silhouette"
        certainty[owner == OUTLIER] = np.nan
    uncertainty = arrays.fact("uncertainty")
    if uncertainty is not None:
        certainty, measure = -uncertainty.astype(np.float64), "uncertainty"
        certainty[~np.isfinite(certainty)] = np.nan
    identities = arrays.fact("identities")
    right = None if identities is None else _right(owner, labels, identities)
    return Groups(arrays, owner, certainty, measure, right)


def _right(owner: np.ndarray, labels: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """(N,) bool, also of dropped images, by the most frequent identity of those that are kept."""
    majority = has_majority_identity(labels, identities)
    persons = np.full(int(owner.max(initial=OUTLIER)) + 2, -2)
    persons[owner[majority]] = identities[majority]
    right: np.ndarray = (
        (owner != OUTLIER) & (identities != OUTLIER) & (persons[owner] == identities)
    )
    return right


def example_clusters(groups: Groups, number: int) -> list[dict[str, Any]]:
    """The most and the least certain images of clusters that are evenly spaced from sure to not.

    Returns:
        `cluster`, `images`, `kept`, `certainty` (mean) and the rows `most` and `least`, surest
        first; [] where no certainty is known.
    """
    means = _mean_certainty(groups)
    sizes = {cluster: len(groups.images(cluster)) for cluster in means}
    enough = [c for c in means if sizes[c] >= _OF_A_SAMPLE] or list(means)
    ranked = sorted(enough, key=lambda cluster: (-means[cluster], cluster))
    places = np.unique(np.linspace(0, len(ranked) - 1, min(number, len(ranked))).round())
    shown = []
    for cluster in (ranked[int(place)] for place in places):
        rows = groups.images(cluster)
        rows = rows[~np.isnan(groups.certainty[rows])]
        half = min(OF_A_SHEET // 2, (len(rows) + 1) // 2)
        least = rows[max(half, len(rows) - half) :]
        shown.append(_facts(groups, cluster, means) | {
            "most": rows[:half].tolist(), "least": least.tolist(),
        })  # fmt: skip
    return shown


def doubtful_clusters(groups: Groups, number: int) -> list[dict[str, Any]]:
    """The clusters to look at first, worst first.

    With identities those with most images of other identities than the most frequent one, else
    those whose images are least certain.

    Returns:
        `cluster`, `images`, `kept`, `certainty` and `rows`, the images that are shown; with
        identities also `wrong` (images) and `identities` (how many); images
        without identity are neither right nor wrong and come last.
    """
    means = _mean_certainty(groups)
    identities = groups.arrays.fact("identities")
    if groups.right is None or identities is None:
        ranked = sorted(means, key=lambda cluster: (means[cluster], cluster))[:number]
        return [
            _facts(groups, cluster, means) | {"rows": _spread(groups.images(cluster)).tolist()}
            for cluster in ranked
        ]
    wrong = groups.kept & ~groups.right & (identities != OUTLIER)
    clusters, counts = np.unique(groups.owner[wrong], return_counts=True)
    sizes = np.array([np.count_nonzero(groups.kept & (groups.owner == c)) for c in clusters])
    shown = []
    for place in np.lexsort((clusters, -counts / np.maximum(1, sizes), -counts))[:number]:
        cluster = int(clusters[place])
        rows = groups.images(cluster)
        kept = rows[groups.kept[rows]]
        nobody = kept[identities[kept] == OUTLIER]
        kept = kept[identities[kept] != OUTLIER]
        held, images = np.unique(identities[kept], return_counts=True)
        often = dict(zip(held.tolist(), images.tolist(), strict=True))
        order = [(not groups.right[r], -often[int(identities[r])], identities[r]) for r in kept]
        kept = kept[sorted(range(len(kept)), key=lambda i: order[i])]
        known = _with_strangers(kept, groups.right)
        shown.append(_facts(groups, cluster, means) | {
            "wrong": int(counts[place]), "identities": len(held),
            "rows": np.concatenate([known, nobody])[:OF_A_SHEET].tolist(),
        })  # fmt: skip
    return shown


def fragmented_identities(groups: Groups, number: int) -> list[dict[str, Any]]:
    """The identities that are in most clusters, most pieces first; [] without identities.

    Returns:
        `identity`, `images` (kept) and `pieces`, the largest first: `cluster`, `images` of the
        identity in it and `rows`, some of them.
    """
    identities = groups.arrays.fact("identities")
    if identities is None:
        return []
    known = groups.kept & (identities != OUTLIER)
    pairs = np.unique(np.stack([identities[known], groups.owner[known]]), axis=1)
    persons, pieces = np.unique(pairs[0], return_counts=True)
    shown = []
    for place in np.lexsort((persons, -pieces))[:number]:
        if pieces[place] < 2:
            break
        own = known & (identities == persons[place])
        parts = []
        for cluster in np.unique(groups.owner[own]):
            rows = np.flatnonzero(own & (groups.owner == cluster))
            parts.append({"cluster": int(cluster), "images": len(rows),
                          "rows": rows[:_OF_A_PIECE].tolist()})  # fmt: skip
        parts.sort(key=lambda part: (-part["images"], part["cluster"]))
        shown.append({"identity": int(persons[place]), "images": int(own.sum()), "pieces": parts})
    return shown


def _mean_certainty(groups: Groups) -> dict[int, float]:
    """Cluster -> the mean of its images whose certainty is known; those without any are not in."""
    known = (groups.owner != OUTLIER) & ~np.isnan(groups.certainty)
    owner = groups.owner[known]
    if not len(owner):
        return {}
    sums, counts = np.bincount(owner, groups.certainty[known]), np.bincount(owner)
    return {int(c): float(sums[c] / counts[c]) for c in np.flatnonzero(counts)}


def _facts(groups: Groups, cluster: int, means: dict[int, float]) -> dict[str, Any]:
    mine = groups.owner == cluster
    return {
        "cluster": cluster,
        "images": int(mine.sum()),
        "kept": int((mine & groups.kept).sum()),
        "certainty": means.get(cluster),
    }


def _spread(rows: np.ndarray) -> np.ndarray:
    """Some of the rows, from the first to the last."""
    places = np.linspace(0, len(rows) - 1, min(OF_A_SHEET, len(rows))).round()
    return rows[np.unique(places).astype(int)]


def _with_strangers(rows: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of many images half are right ones, so that those of other identities are seen."""
    if len(rows) <= OF_A_SHEET:
        return rows
    own, strangers = rows[right[rows]], rows[~right[rows]]
    room = max(OF_A_SHEET // 2, OF_A_SHEET - len(strangers))
    return np.concatenate([own[:room], strangers])[:OF_A_SHEET]
