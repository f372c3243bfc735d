"""SpCL: keep the clusters that a somewhat larger or smaller radius leaves as they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ..dbscan import dbscan
from ..pairwise import PairwiseDistances
from ..reliability import Reliability, reliability
from ..types import OUTLIER, PseudoLabels
from .base import REFINERS, RefinerInputs
from .secret import keep_images

logger = logging.getLogger(__name__)


@REFINERS.register
@dataclass(frozen=True)
class SpCL:
    """Self-paced contrastive learning: its reliability criterion.

    A cluster is *independent* if its images are not joined by others at a larger radius, and its
    images are *compact* if they stay together at a smaller one (R_indep and R_comp,
    `reliability.py`). The images of clusters that are not independent become outliers, and so do
    those that are less compact than the most compact image of their cluster. The method then trains
    on the outliers too, each as a class of its own, in its hybrid memory; here they are left out,
    as with all refiners.

    What differs from the published rule, or is open:

    - Its threshold alpha of R_indep is found in the first round, such that 90 % of the clusters
      pass, and kept. A refiner has no memory, so that the share is the same in every round, in the
      first as in the code: of K clusters with more than one image the round(0.9 K) most independent
      ones pass, the next one, and those that are as independent. A cluster is as independent as its
      most independent image.
    - Its threshold beta of R_comp is the largest value of the cluster: `compactness` 1. Less keeps
      more images.
    - An outlier counts as a cluster of its own at every radius, as in the code.
    - The two radii are clustered by DBSCAN, whatever made the clusters: with k-means and HDBSCAN
      the score is how far DBSCAN agrees with them.

    Reference: Ge, Zhu, Chen, Zhao and Li, "Self-paced Contrastive Learning with Hybrid Memory for
    Domain Adaptive Object Re-ID", NeurIPS 2020. Code of the authors:
    https://github.com/yxgeee/SpCL, examples/spcl_train_uda.py.
    """

    uses_distances: ClassVar[bool] = True
    uses_eps: ClassVar[bool] = True

    # the radii beside eps, eps - `GAP` and eps + `GAP`, at which DBSCAN has to agree with the
    # clusters
    gap: float = 0.02
    # share of the clusters that pass, those that change least at the larger radius; 0 to 1
    independence: float = 0.9
    # an image needs this share of the largest compactness in its cluster; 0: all pass; 0 to 1
    compactness: float = 1.0
    # images within those radii that make an image a core image, itself included
    min_samples: int = 4

    def __post_init__(self) -> None:
        for key, value, accepted, allowed in (
            ("GAP", self.gap, 0 < self.gap < np.inf, "above 0 and finite"),
            ("INDEPENDENCE", self.independence, 0 <= self.independence <= 1, "from 0 to 1"),
            ("COMPACTNESS", self.compactness, 0 <= self.compactness <= 1, "from 0 to 1"),
            ("MIN_SAMPLES", self.min_samples, self.min_samples >= 1, "1 or more"),
        ):
            if not accepted:
                raise UserError(f"UDA.SPCL.{key} is {value}, but it must be {allowed}.")

    def refine(self, inputs: RefinerInputs) -> Mapping[str, PseudoLabels]:
        """Drop the images of unreliable clusters and number the others by their first image.

        Raises:
            UserError: eps - gap is not above 0, or eps + gap reaches the largest distance.
        """
        refined = {}
        for view, raw in inputs.clusters.items():
            scores = self.measure(raw.labels, inputs.distances[view], inputs.eps[view])
            keep = reliable(raw.labels, scores, self.independence, self.compactness)
            refined[view] = keep_images(raw, keep, inputs.features.views[view])
            logger.info(
                "SpCL: of %d images in %d clusters, %d in %d are reliable.",
                np.count_nonzero(raw.kept), raw.num_classes,
                np.count_nonzero(keep), refined[view].num_classes,
            )  # fmt: skip
        return refined

    def measure(self, labels: np.ndarray, distances: PairwiseDistances, eps: float) -> Reliability:
        """The scores of the images of one view, with clusters at eps - gap and eps + gap."""
        tight, loose = eps - self.gap, eps + self.gap
        if tight <= 0 or loose >= distances.fill:
            end = f"{distances.fill}, where distances end" if tight > 0 else "0"
            raise UserError(
                f"UDA.SPCL.GAP is {self.gap}, but eps, {eps:.4g}, is no farther from {end}; "
                "choose less, or another UDA.CLUSTER.EPS."
            )
        graph = distances.within(loose)
        at = {radius: dbscan(graph, radius, self.min_samples) for radius in (tight, loose)}
        return reliability(labels, at[tight], at[loose])


def reliable(
    labels: np.ndarray, scores: Reliability, independence: float, compactness: float
) -> np.ndarray:
    """The images that are kept, (N,) bool.

    Args:
        labels: (N,) int64 in {OUTLIER} and 0, 1, ...
        scores: of the N images.
        independence: the share of the clusters that pass, in [0, 1], see `SpCL`.
        compactness: the share of the largest compactness of its cluster that an image needs.
    """
    keep = np.zeros(len(labels), dtype=bool)
    clustered = np.flatnonzero(labels != OUTLIER)
    if not len(clustered):
        return keep
    own = labels[clustered]
    independent, compact = np.zeros((2, own.max() + 1))
    np.maximum.at(independent, own, scores.independence[clustered])
    np.maximum.at(compact, own, scores.compactness[clustered])
    several = np.sort(independent[np.bincount(own) > 1])[::-1]
    least = (
        several[min(len(several) - 1, round(independence * len(several)))] if len(several) else 0
    )
    keep[clustered] = independent[own] >= least
    keep[clustered] &= scores.compactness[clustered] >= compactness * compact[own]
    return keep
