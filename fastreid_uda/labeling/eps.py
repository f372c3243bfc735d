"""The radius of DBSCAN: set, or estimated from the distances of the first round."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import UserError
from ..registry import Registry
from .cameras import require_cameras
from .pairwise import PairwiseDistances

_logger = logging.getLogger(__name__)

EPS_RULES = Registry("UDA.CLUSTER.EPS_RULE")
"""Classes with the method of `EpsRule`."""


class EpsRule(Protocol):
    """What the pipeline asks of a rule."""

    def find(
        self,
        distances: PairwiseDistances,
        camera_ids: np.ndarray | None = None,
        cluster: Callable[[float], np.ndarray] | None = None,
    ) -> float:
        """A positive, finite radius.

        Args:
            distances: of one view.
            camera_ids: (N,) integers, for rules that look across cameras.
            cluster: radius -> the labels (N,) that the clusterer gives with it, for rules that try
                several.
        """


@dataclass(frozen=True)
class FixedEps:
    """UDA.CLUSTER.EPS, checked when it is set rather than after the features are extracted."""

    eps: float

    def __post_init__(self) -> None:
        check_eps(self.eps)

    def find(
        self,
        distances: PairwiseDistances,
        camera_ids: np.ndarray | None = None,
        cluster: Callable[[float], np.ndarray] | None = None,
    ) -> float:
        """The radius that was set."""
        return self.eps


@EPS_RULES.register
@dataclass(frozen=True)
class Rho:
    """The mean of the smallest distances between different images, see `rho_eps`."""

    # rho, the share of the pairs whose distances the rule averages; above 0, at most 1
    fraction: float = 1.6e-3

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise UserError(f"UDA.CLUSTER.RHO.FRACTION is {self.fraction}, but must be in (0, 1].")

    def find(
        self,
        distances: PairwiseDistances,
        camera_ids: np.ndarray | None = None,
        cluster: Callable[[float], np.ndarray] | None = None,
    ) -> float:
        """The radius by `rho_eps`."""
        return rho_eps(distances, self.fraction)


@EPS_RULES.register
@dataclass(frozen=True)
class CrossCamera:
    """The mean of the smallest distances between images of different cameras: NPLP's Eq. 4."""

    # alpha, the share of the pairs across cameras whose distances the rule averages; above 0, at
    # most 1
    fraction: float = 0.0012

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise UserError(
                f"UDA.CLUSTER.CROSSCAMERA.FRACTION is {self.fraction}, but must be in (0, 1]."
            )

    def find(
        self,
        distances: PairwiseDistances,
        camera_ids: np.ndarray | None = None,
        cluster: Callable[[float], np.ndarray] | None = None,
    ) -> float:
        """The radius by `cross_camera_eps`."""
        return cross_camera_eps(distances, self._require_cameras(camera_ids), self.fraction)

    def check_cameras(self, camera_ids: np.ndarray | None) -> None:
        """Raise a `UserError` unless there are two cameras to measure between."""
        self._require_cameras(camera_ids)

    def _require_cameras(self, camera_ids: np.ndarray | None) -> np.ndarray:
        advice = (
            "UDA.CLUSTER.EPS_RULE CrossCamera measures between cameras; set it to Rho, or set "
            "UDA.CLUSTER.EPS"
        )
        return require_cameras(camera_ids, 2, advice)


def rho_eps(distances: PairwiseDistances, fraction: float = 1.6e-3) -> float:
    """The mean of the smallest non-zero distances between different images.

    Reference: Song et al., "Unsupervised Domain Adaptive Re-Identification: Theory and Practice",
    2018, selftraining.py:187-195; taken over by MMT (mmt_train_dbscan.py:175-184) and SECRET
    (mutualrefine.py:119-132), which compute it once, in the first round, and keep it. Theirs is
    NaN below 26 images; here at least one pair counts.

    Args:
        distances: of one view.
        fraction: rho, the share of the pairs that count, in (0, 1].

    Raises:
        UserError: if no two images are at a distance above 0.
    """
    eps, count = distances.smallest_mean(fraction)
    _logger.info("eps %.6f is the mean of the %d smallest distances.", eps, count)
    return eps


def cross_camera_eps(
    distances: PairwiseDistances, camera_ids: np.ndarray, fraction: float = 0.0012
) -> float:
    """The mean of the smallest distances between images of different cameras: NPLP's Eq. 4.

        eps_e = 1 / (alpha M) * the sum of the alpha M smallest d(x_i, x_j), c_i != c_j

    over the M unordered pairs across cameras, those at distance 0 included; alpha M is rounded, and
    is at least 1. Ordered pairs would give the same mean.

    Reference: Liang, Lv, Li and Liu, "NPLP: A Noisy Pseudo-Label Processing Approach for
    Unsupervised Domain-Adaptive Person Re-ID", III-C.

    Args:
        distances: of one view.
        camera_ids: (N,) integers, of at least two cameras.
        fraction: alpha, in (0, 1].

    Raises:
        UserError: if all pairs that count are at distance 0, or no two images differ in camera.
    """
    eps, count = distances.smallest_mean(fraction, camera_ids, zeros=True)
    if eps == 0:
        raise UserError(
            f"The {count} nearest pairs of images of different cameras are at distance 0, so eps "
            "cannot be taken from them; raise UDA.CLUSTER.CROSSCAMERA.FRACTION, set "
            "UDA.CLUSTER.EPS, or look for identical images."
        )
    _logger.info("eps %.6f is the mean of the %d smallest distances between cameras.", eps, count)
    return eps


def check_eps(eps: float) -> float:
    """The eps, if DBSCAN can use it.

    Raises:
        UserError: if it is not a positive, finite number.
    """
    if not (math.isfinite(eps) and eps > 0):
        raise UserError(
            f"UDA.CLUSTER.EPS is {eps}, but it must be positive and finite; change it, or leave it "
            "out so that UDA.CLUSTER.EPS_RULE finds one."
        )
    return eps
