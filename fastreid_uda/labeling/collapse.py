"""When a labeling leaves too little to train on: found once, behind the last stage."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from ..errors import UserError
from .quality import holds_too_many
from .types import PseudoLabels, kept_in_all

logger = logging.getLogger(__name__)


class LabelingCollapse(UserError):
    """A round left fewer than two classes to train on; the message counts what each stage kept."""


def check_trainable(
    clusters: Mapping[str, PseudoLabels],
    refined: Mapping[str, PseudoLabels],
    eps: Mapping[str, float],
    key: str = "UDA.CLUSTER.EPS",
) -> None:
    """Raise a `LabelingCollapse` unless there are two classes to train on.

    In every view by itself, and in the training set: the images kept in all views. Its classes are
    those of the first view, which the sampler draws from.

    Args:
        clusters: view -> the labels before refinement.
        refined: view -> the labels of the same images after it.
        eps: view -> the radius of the clusterer, where it has one.
        key: the config key, or node of keys, that the clusters depend on.
    """
    for view, labels in refined.items():
        images = len(labels.labels)
        found = len(np.unique(clusters[view].labels[clusters[view].kept]))
        left = len(np.unique(labels.labels[labels.kept]))
        if left < 2:
            radius = f" at eps {eps[view]:.4g}" if view in eps else ""
            refiners = f"UDA.REFINERS or their keys, or {key} for other clusters"
            advice = refiners if found >= 2 else f"{key} or UDA.CLUSTER.NAME"
            raise LabelingCollapse(
                f"View '{view}': clustering found {found} cluster(s) of "
                f"{int(clusters[view].kept.sum())} of {images} images{radius} and refinement left "
                f"{left} cluster(s) of {int(labels.kept.sum())} image(s), but training needs 2; "
                f"change {advice}."
            )
        # Raw clusters too: a refiner that drops the images of a giant one hides that eps is wrong.
        largest = max(_largest(part) for part in (clusters[view], labels))
        if holds_too_many(largest, images):
            logger.warning(
                "View '%s': one cluster holds %d of %d images; look at %s.",
                view, largest, images, key,
            )  # fmt: skip
    _check_training_set(refined, key)


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
