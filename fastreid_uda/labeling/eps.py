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
from .distances import PairwiseDistances

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
    """See `rho_eps`."""

    fraction: float = 1.6e-3  # rho, the share of the pairs that count, in (0, 1]

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
