"""SECRET: each view keeps the images on which another view agrees with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UserError
from ..types import OUTLIER, PseudoLabels, class_centroids, renumber
from .base import REFINERS, RefinerInputs

GLOBAL = "global"
"""The view that refines every other view and is refined by all of them."""

DENOMINATORS = ("valid", "all")
"""What the share of an agreeing group is taken of, see `agreeing`."""


@REFINERS.register
@dataclass(frozen=True)
class SECRET:
    """Self-consistent pseudo-label refinement: the mutual refinement of the views, Algorithm 1.

    Every view is clustered by itself. The global view keeps what all local views agree with, a
    local view what the global view, as it was clustered, agrees with. The method trains on the
    images that all views keep, and every classifier has a row for each cluster of its view, also
    for one that has no image in common with the other views.

    Paper and code differ: Algorithm 2 divides by the size of the cluster and does not mention
    outliers; the authors' code leaves the outliers of the reference out first. Of a cluster of 10,
    with 4 images in one cluster of the reference, 1 in another and 5 outliers, `valid` (the code)
    keeps 4 at K = 0.4, `all` (the paper) none.

    Reference: He, Shen, Guo, Ding and Guo, "SECRET: Self-Consistent Pseudo Label Refinement for
    Unsupervised Domain Adaptive Person Re-Identification", AAAI 2022. Code of the authors:
    https://github.com/LunarShen/SECRET, secret/cluster/RefineCluster.py and mutualrefine.py.
    """

    # a group of images that another view clusters together is kept if it is more than this share of
    # its cluster; between 0 and 1
    k: float = 0.4
    # the share is taken of the images that the other view clusters (`valid`), or of `all`
    denominator: str = "valid"
    # the views that refine the global one and are refined by it; `()`: all
    local_views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.k < 1:
            raise UserError(f"UDA.SECRET.K is {self.k}, but it must lie between 0 and 1.")
        if self.denominator not in DENOMINATORS:
            raise UserError(
                f"UDA.SECRET.DENOMINATOR is {self.denominator!r}, but the known values are: "
                f"{', '.join(DENOMINATORS)}."
            )
        names = self.local_views
        are_names = not isinstance(names, str) and all(isinstance(name, str) for name in names)
        if not are_names or GLOBAL in names or len(set(names)) < len(names):
            raise UserError(
                f"UDA.SECRET.LOCAL_VIEWS is {names!r}, but it lists views other than 'global', "
                "each once; set it to e.g. \"('top', 'bottom')\", or to () for all of them."
            )

    def check_views(self, views: Sequence[str]) -> None:
        """Raise a `UserError` unless there is a global view and a local one to compare it with."""
        if GLOBAL not in views or len(views) < 2:
            raise UserError(
                f"SECRET compares views and needs 'global' and at least one more, got "
                f"{list(views)}; set MODEL.HEADS.NAME to MultiViewHead, or add views to the "
                "feature file."
            )
        unknown = [name for name in self.local_views if name not in views]
        if unknown:
            known = ", ".join(view for view in views if view != GLOBAL)
            raise UserError(
                f"UDA.SECRET.LOCAL_VIEWS names {unknown[0]!r}, but the views besides 'global' are: "
                f"{known}; change it."
            )

    def refine(self, inputs: RefinerInputs) -> Mapping[str, PseudoLabels]:
        """Drop the images without agreement and number the clusters by their first image."""
        self.check_views(tuple(inputs.clusters))
        labels = {view: raw.labels for view, raw in inputs.clusters.items()}
        local_views = self.local_views or [view for view in labels if view != GLOBAL]
        keep = mutual_refinement(labels, local_views, self.k, self.denominator)
        return {
            view: keep_images(raw, keep[view], inputs.features.views[view])
            for view, raw in inputs.clusters.items()
        }


def mutual_refinement(
    labels: Mapping[str, np.ndarray], local_views: Sequence[str], k: float, denominator: str
) -> dict[str, np.ndarray]:
    """Algorithm 1 of the paper: which images each view keeps, view -> (N,) bool.

    Args:
        labels: view -> (N,) int64, G under "global" and the L under their names.
        local_views: the views that are compared with the global one; others keep all they have.
        k: K of `agreeing`.
        denominator: of `agreeing`.
    """
    keep = {view: y != OUTLIER for view, y in labels.items()}
    for local in local_views:
        # Lines 1-3: G' = Refine(G, Lt) and Refine(G, Lb).
        keep[GLOBAL] &= agreeing(labels[GLOBAL], labels[local], k, denominator)
        # Lines 4-5: L' = Refine(L, G), with G and not G', in the paper as in the code.
        keep[local] = agreeing(labels[local], labels[GLOBAL], k, denominator)
    return keep


def agreeing(
    target: np.ndarray, reference: np.ndarray, k: float, denominator: str = "valid"
) -> np.ndarray:
    """Algorithm 2 of the paper: the images of a view that another view confirms, (N,) bool.

    The reference splits each cluster of the target into groups. A group is kept if it has more than
    the share k of its cluster, so a cluster may keep several groups, under the one label it has.
    An outlier of either view is in no group.

    Args:
        target: T, (N,) int64 in {OUTLIER} and 0..., the labels to be refined.
        reference: R, (N,) int64, labels of the same images in another view.
        k: K, in (0, 1).
        denominator: the size of a cluster counts its images that are no outliers of the reference
            (`valid`, the authors' code) or `all` of them (|T_l|, the paper).
    """
    valid = (target != OUTLIER) & (reference != OUTLIER)
    counted = {"valid": valid, "all": target != OUTLIER}[denominator]
    sizes = np.bincount(target[counted])
    pairs = target[valid] * (reference.max(initial=OUTLIER) + 1) + reference[valid]
    _, group, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    keep = np.zeros(len(target), dtype=bool)
    # The guard makes a tie a tie: 0.29 * 100 is 28.999999999999996 in floats, which 29 exceeds.
    keep[valid] = counts[group] > k * sizes[target[valid]] + 1e-9
    return keep


def keep_images(raw: PseudoLabels, keep: np.ndarray, features: np.ndarray) -> PseudoLabels:
    """The labels of some images, the clusters numbered by first appearance, with new centroids.

    Args:
        raw: labels of the view.
        keep: (N,) bool; all other images become outliers.
        features: (N, D) float32, unit rows, of the view.
    """
    labels, old = renumber(np.where(keep, raw.labels, OUTLIER), by_appearance=True)
    return replace(
        raw,
        labels=labels,
        centroids=class_centroids(features, labels, len(old)),
        weights=np.where(keep, raw.weights, 0).astype(np.float32),
    )
