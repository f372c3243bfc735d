"""NPLP: after some rounds, split the clusters that look impure with a smaller radius."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_matrix

from ...errors import UserError
from ..clustering import DBSCAN
from ..pairwise import PairwiseDistances, SparseDistances
from ..self_assessment import cluster_scores
from ..types import OUTLIER, PseudoLabels, class_centroids, renumber
from .base import REFINERS, RefinerInputs
from .p2lr import selected_count

logger = logging.getLogger(__name__)


@REFINERS.register
@dataclass(frozen=True)
class NPLP:
    """Noisy pseudo-label processing: the startup and the correcting stage of section III-C.

    In the startup stage a large radius brings the images of a person from all cameras together,
    and other people with them; the labels stay as they were clustered. In the correcting stage the
    clusters with the smallest self-assessment scores (Eq. 6 to 8, `self_assessment.py`) are
    clustered again, each by itself, with DBSCAN at eps_c = beta eps_e (Eq. 9). Their parts become
    clusters, and all other clusters stay. The radius eps_e of Eq. 4 is the rule `CrossCamera` of
    `UDA.CLUSTER.EPS_RULE`; any other rule, distance and clusterer will do.

    What the paper leaves open, and how it is read here:

    - The set of noisy clusters, Eq. 5, holds clusters only, so outliers do not count in the N_n of
      Eq. 7. Counting them can turn the order of two clusters round.
    - The corrected set is made of sub-clusters and untouched clusters, so an image that belongs to
      no sub-cluster is left out of this round, and a cluster without a dense part vanishes.
    - K = 0.1 c is rounded down, but is at least 1. Of equal scores the lower label comes first.
      With one cluster b_i does not exist, and nothing is corrected.
    - Algorithm 1 compares with I_e an iteration whose first number is not given: here
      `startup_rounds` whole rounds are left as they are.
    - The neighbours that make a core image are not given: 4, as in the self-training methods that
      the paper builds on.

    Reference: Liang, Lv, Li and Liu, "NPLP: A Noisy Pseudo-Label Processing Approach for
    Unsupervised Domain-Adaptive Person Re-ID", III-C and Algorithm 1. No code of the authors is
    public.
    """

    uses_distances: ClassVar[bool] = True
    uses_eps: ClassVar[bool] = True

    startup_rounds: int = 15  # I_e, rounds whose clusters stay as they are
    # after them, this share of the clusters, those that look least pure, is clustered again, each
    # by itself, with DBSCAN; above 0, at most 1
    share: float = 0.1
    beta: float = 0.5  # the radius within them is this times eps, Eq. 9; above 0, at most 1
    # images within that radius that make an image a core image, itself included
    min_samples: int = 4

    def __post_init__(self) -> None:
        for key, value, accepted, allowed in (
            ("STARTUP_ROUNDS", self.startup_rounds, self.startup_rounds >= 0, "0 or more"),
            ("SHARE", self.share, 0 < self.share <= 1, "above 0 and at most 1"),
            ("BETA", self.beta, 0 < self.beta <= 1, "above 0 and at most 1"),
            ("MIN_SAMPLES", self.min_samples, self.min_samples >= 1, "1 or more"),
        ):
            if not accepted:
                raise UserError(f"UDA.NPLP.{key} is {value}, but it must be {allowed}.")

    def refine(self, inputs: RefinerInputs) -> Mapping[str, PseudoLabels]:
        """Leave the labels in the startup stage; split the worst clusters in the correcting one."""
        if inputs.round_index < self.startup_rounds:
            return dict(inputs.clusters)
        return {
            view: self._correct(
                raw, inputs.distances[view], inputs.eps[view], inputs.features.views[view]
            )
            for view, raw in inputs.clusters.items()
        }

    def _correct(
        self, raw: PseudoLabels, distances: PairwiseDistances, eps: float, features: np.ndarray
    ) -> PseudoLabels:
        """The correcting stage for one view with features (N, D)."""
        labels, old = renumber(raw.labels)  # classes without images are no clusters
        clusters = len(old)
        if clusters < 2:
            return raw
        scores = cluster_scores(distances, labels)
        worst = np.argsort(scores, kind="stable")[: selected_count(clusters, self.share)]
        rows = np.flatnonzero(np.isin(labels, worst))
        parts = split_clusters(
            distances.subset(rows), labels[rows], self.beta * eps, self.min_samples
        )
        labels[rows] = np.where(parts == OUTLIER, OUTLIER, clusters + parts)
        labels, old = renumber(labels)
        logger.info(
            "NPLP: %d clusters with scores up to %.4f became %d; %d of their %d images are left "
            "out.",
            len(worst), scores[worst[-1]], parts.max(initial=OUTLIER) + 1,
            np.count_nonzero(parts == OUTLIER), len(rows),
        )  # fmt: skip
        return replace(
            raw,
            labels=labels,
            centroids=class_centroids(features, labels, len(old)),
            weights=np.where(labels != OUTLIER, raw.weights, 0).astype(np.float32),
        )


def split_clusters(
    distances: PairwiseDistances, labels: np.ndarray, radius: float, min_samples: int
) -> np.ndarray:
    """DBSCAN inside every cluster by itself.

    Args:
        distances: between N images.
        labels: (N,) int64, none an outlier.
        radius: within which images of one cluster are neighbours.
        min_samples: of DBSCAN.

    Returns:
        (N,) int64: the numbers of the parts, 0..., different in different clusters, or OUTLIER.
    """
    # One run for all clusters: without the edges between them none reaches into another.
    graph = distances.within(radius).tocoo()
    same = labels[graph.row] == labels[graph.col]
    inside = csr_matrix((graph.data[same], (graph.row[same], graph.col[same])), graph.shape)
    separate = SparseDistances(inside, fill=math.inf)
    return DBSCAN(min_samples).cluster(np.empty((len(labels), 0)), separate, radius, seed=0)
