"""When a labeling leaves too little to train on: found once, behind the last stage."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import numpy as np

from ..errors import UserError
from .pairwise import PairwiseDistances
from .quality import holds_too_many
from .types import PseudoLabels, kept_in_all

logger = logging.getLogger(__name__)

CLUSTERING = "clustering"
"""The first name in `kept_after`; the others are refiners, or config keys of refiners."""

_NEIGHBORS = (1, 3, 7)
"""Other images around an image, for the radii of a message."""

KeptAfter = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Stage or filter, in order -> view -> how many `images` and `clusters` it left.

The second filter of the same name is `"SECRET 2"`.
"""


class LabelingCollapse(UserError):
    """A round left fewer than two classes to train on; the message counts what each stage kept."""


def count_kept(labels: Mapping[str, PseudoLabels]) -> dict[str, dict[str, int]]:
    """View -> its `images` that have a label, and its `clusters` that have an image."""
    return {
        view: {
            "images": int(part.kept.sum()),
            "clusters": len(np.unique(part.labels[part.kept])),
        }
        for view, part in labels.items()
    }


def check_trainable(
    clusters: Mapping[str, PseudoLabels],
    refined: Mapping[str, PseudoLabels],
    eps: Mapping[str, float],
    key: str = "UDA.CLUSTER.EPS",
    *,
    kept_after: KeptAfter | None = None,
    distances: Mapping[str, PairwiseDistances] | None = None,
    features: Mapping[str, np.ndarray] | None = None,
    zero_key: str = "",
) -> None:
    """Raise a `LabelingCollapse` unless there are two classes to train on.

    In every view by itself, and in the training set: the images kept in all views. Its classes are
    those of the first view, which the sampler draws from.

    Args:
        clusters: view -> the labels before refinement.
        refined: view -> the labels of the same images after it.
        eps: view -> the radius of the clusterer, where it has one.
        key: the config key, or node of keys, that the clusters depend on.
        kept_after: what each stage left, for the message.
        distances: view -> the distances that the radius is compared with, for the message.
        features: view -> (N, D), the rows that were clustered, for the message.
        zero_key: the config key to change where all of these are zero.
    """
    for view, labels in refined.items():
        raw = clusters[view]
        if len(np.unique(labels.labels[labels.kept])) < 2:
            near = (distances or {}).get(view) if view in eps else None
            steps = {name: counts[view] for name, counts in (kept_after or {}).items()}
            rows = (features or {}).get(view)
            story = _story(view, raw, labels, eps.get(view), _surroundings(near, rows), steps)
            if zero_key and rows is not None and not rows.any():
                story += ", and the rows that were clustered are all zero"
                raise LabelingCollapse(f"{story}; change {zero_key}.")
            raise LabelingCollapse(f"{story}; change {_advice(raw, steps, key)}.")
        # Raw clusters too: a refiner that drops the images of a giant one hides that eps is wrong.
        largest = max(_largest(part) for part in (raw, labels))
        if holds_too_many(largest, len(labels.labels)):
            logger.warning(
                "View '%s': one cluster holds %d of %d images; look at %s.",
                view, largest, len(labels.labels), key,
            )  # fmt: skip
    _check_training_set(refined, key)


def _story(
    view: str,
    raw: PseudoLabels,
    refined: PseudoLabels,
    eps: float | None,
    surroundings: str,
    steps: Mapping[str, Mapping[str, int]],
) -> str:
    """What the stages left of a view, without an end."""
    before, after = (count_kept({view: part})[view] for part in (raw, refined))
    radius = "" if eps is None else f" at eps {eps:.4g}{surroundings}"
    filters = ", ".join(
        f"{name} left {counts['clusters']} of {counts['images']}"
        for name, counts in steps.items()
        if name != CLUSTERING
    )
    return (
        f"View '{view}': clustering found {before['clusters']} cluster(s) of {before['images']} of "
        f"{len(raw.labels)} images{radius} and refinement left {after['clusters']} cluster(s) of "
        f"{after['images']} image(s){f' ({filters})' if filters else ''}, but training needs 2"
    )


def _advice(raw: PseudoLabels, steps: Mapping[str, Mapping[str, int]], key: str) -> str:
    """The keys to change: of the first stage that left fewer than two clusters."""
    if len(np.unique(raw.labels[raw.kept])) < 2:
        return f"{key} or UDA.CLUSTER.NAME"
    names = [name for name, counts in steps.items() if counts["clusters"] < 2]
    first = f"UDA.{names[0].split(' ')[0]}, " if names else ""
    return f"{first}UDA.REFINERS or their keys, or {key} for other clusters"


def _surroundings(distances: PairwiseDistances | None, rows: np.ndarray | None) -> str:
    """How far an image has to look for others."""
    if distances is None:
        return ""
    if distances.count_near(0) == math.comb(distances.num_rows, 2):
        alike = rows is not None and bool((rows == rows[0]).all())
        return f" (all images are at distance 0{': the features are all alike' if alike else ''})"
    radii = distances.near_radii(np.array(_NEIGHBORS) + 1)
    shown = "/".join(f"{radius:.3g}" if np.isfinite(radius) else "more" for radius in radii)
    return f" (on average {'/'.join(map(str, _NEIGHBORS))} other images are within {shown})"


def _largest(labels: PseudoLabels) -> int:
    return int(np.bincount(labels.labels[labels.kept], minlength=1).max())


def _check_training_set(refined: Mapping[str, PseudoLabels], key: str) -> None:
    first, *_ = refined
    trained = kept_in_all(refined)
    left = len(np.unique(refined[first].labels[trained]))
    if left < 2:
        kept = ", ".join(f"{int(part.kept.sum())} in '{view}'" for view, part in refined.items())
        raise LabelingCollapse(
            f"Of {len(trained)} images {kept} are kept, but in all views only "
            f"{int(trained.sum())}, with {left} class(es) of view '{first}', and training needs 2; "
            f"the views disagree: change UDA.REFINERS or {key}."
        )
