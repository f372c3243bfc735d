"""How the clusters depend on eps, and which eps to take when there are no labels to ask."""

from __future__ import annotations

import bisect
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .eps import EPS_RULES
from .eps_report import table
from .pairwise import PairwiseDistances
from .quality import (
    describe_labels,
    holds_too_many,
    label_stability,
)
from .silhouette import mean_silhouettes
from .types import OUTLIER, make_pseudo_labels

_logger = logging.getLogger(__name__)

NEIGHBORS = (1.5, 50.0)
"""Images within eps on average, the image itself included, at both ends of the grid."""


@dataclass(frozen=True)
class ScanRow:
    """What the clusters at one eps look like, as far as it can be seen without identities.

    Attributes:
        eps: the radius.
        clusters: their number.
        kept: share of the images that are in a cluster, in [0, 1].
        cross_camera: share of the clusters seen by two or more cameras, in [0, 1]; None where the
            cameras are unknown or there is no cluster.
        largest: share of the images that are in the largest cluster, in [0, 1].
        silhouette: mean over the images in clusters, in [-1, 1]; 0 below two clusters.
        stability: adjusted Rand index with the clusters at the eps before, on the images that are
            in clusters at both; None at the first eps.
        crowded: whether one cluster holds more than a tenth of the images, see `holds_too_many`.
    """

    eps: float
    clusters: int
    kept: float
    cross_camera: float | None
    largest: float
    silhouette: float
    stability: float | None
    crowded: bool

    @property
    def score(self) -> float:
        """The mean silhouette of all images, 0 for those in no cluster: silhouette times kept."""
        return self.silhouette * self.kept


@dataclass(frozen=True)
class EpsScan:
    """A scan of one view.

    Attributes:
        rows: one for each eps, ascending.
        labels: (S, N) int64, the labels at each of the S eps.
        eps: the recommended one.
        doubt: why it should not be trusted; empty if nothing speaks against it.
    """

    rows: tuple[ScanRow, ...]
    labels: np.ndarray
    eps: float
    doubt: str


@EPS_RULES.register
@dataclass(frozen=True)
class Scan:
    """Cluster at several eps and take the one of `recommend`."""

    lowest: float = 0.0  # the smallest eps that is tried; 0.0: from the distances
    highest: float = 0.0  # the largest; 0.0: from the distances
    steps: int = 13  # how many are tried, at least 2

    def __post_init__(self) -> None:
        for key, value in (("LOWEST", self.lowest), ("HIGHEST", self.highest)):
            if not 0 <= value < math.inf:
                raise UserError(
                    f"UDA.CLUSTER.SCAN.{key} is {value}, but it must be above 0 and finite, or 0.0 "
                    "to be taken from the distances."
                )
        if 0 < self.highest <= self.lowest:
            raise UserError(
                f"UDA.CLUSTER.SCAN.HIGHEST is {self.highest}, but UDA.CLUSTER.SCAN.LOWEST is "
                f"{self.lowest}; the highest eps must be above the lowest."
            )
        if self.steps < 2:
            raise UserError(f"UDA.CLUSTER.SCAN.STEPS is {self.steps}, but must be at least 2.")

    def check_distances(self, fill: float) -> None:
        """Raise a `UserError` if an end of the grid is beyond all distances.

        Args:
            fill: see `PairwiseDistances`.
        """
        for key, value in (("LOWEST", self.lowest), ("HIGHEST", self.highest)):
            if value >= fill:
                raise UserError(
                    f"UDA.CLUSTER.SCAN.{key} is {value}, but distances end at {fill}; choose less."
                )

    def find(
        self,
        distances: PairwiseDistances,
        camera_ids: np.ndarray | None = None,
        cluster: Callable[[float], np.ndarray] | None = None,
    ) -> float:
        """The recommended eps; the table of the scan goes to the log."""
        if cluster is None:
            raise ValueError("Scan needs to cluster.")
        scan = self.scan(distances, camera_ids, cluster)
        _logger.debug("Scan of eps:\n%s", table(scan.rows, scan.eps))
        _logger.info("eps %.4g is the best of %d that were tried.", scan.eps, len(scan.rows))
        if scan.doubt:
            _logger.warning("%s", scan.doubt)
        return scan.eps

    def scan(
        self,
        distances: PairwiseDistances,
        camera_ids: np.ndarray | None,
        cluster: Callable[[float], np.ndarray],
        progress: Callable[[Sequence[float]], Iterable[float]] = iter,
    ) -> EpsScan:
        """The clusters at every eps of the grid; arguments as `scan`."""
        rows, labels = scan(distances, camera_ids, cluster, self.grid(distances, cluster), progress)
        return EpsScan(tuple(rows), labels, *recommend(rows))

    def grid(
        self, distances: PairwiseDistances, cluster: Callable[[float], np.ndarray]
    ) -> list[float]:
        """The eps to try, ascending, to four digits.

        Where neither end is set they are radii within which an image has some images on average,
        itself included: 1.5 of them at first, in equal ratios up to 50 or to the eps at which one
        cluster holds more than half of the images, which it does at all larger ones too. Where an
        end is set the steps from end to end are equal.

        Raises:
            UserError: the distances have no such radius above 0, or none above LOWEST.
        """
        self.check_distances(distances.fill)
        if self.lowest and self.highest:
            return self._even(self.lowest, self.highest)
        found = distances.radii(np.geomspace(*NEIGHBORS, 4 * self.steps))
        usable = sorted({float(f"{radius:.4g}") for radius in found})
        usable = [eps for eps in usable if eps > 0 and not eps >= distances.fill]
        if not usable:
            raise UserError(
                "The distances between the target images are all 0 or all the same, so there is no "
                "eps to try; set UDA.CLUSTER.EPS, or look for identical images."
            )
        if self.lowest or self.highest:
            low, high = self.lowest or usable[0], self.highest or usable[-1]
            if low >= high:
                raise UserError(
                    f"The eps to try go from {low:.4g} to {high:.4g}, the end that was not "
                    "set taken from the distances; set both UDA.CLUSTER.SCAN.LOWEST and HIGHEST."
                )
            return self._even(low, high)
        distances.keep_within(usable[-1])
        last = bisect.bisect_left(usable, True, key=lambda eps: _holds_half(cluster(eps)))
        places = np.linspace(0, min(last, len(usable) - 1), self.steps)
        return [usable[place] for place in sorted({round(place) for place in places})]

    def _even(self, low: float, high: float) -> list[float]:
        return sorted({float(f"{eps:.4g}") for eps in np.linspace(low, high, self.steps)})


def _holds_half(labels: np.ndarray) -> bool:
    sizes = np.bincount(labels[labels != OUTLIER], minlength=1)
    return bool(sizes.max() > len(labels) / 2)


def scan(
    distances: PairwiseDistances,
    camera_ids: np.ndarray | None,
    cluster: Callable[[float], np.ndarray],
    grid: Sequence[float],
    progress: Callable[[Sequence[float]], Iterable[float]] = iter,
) -> tuple[list[ScanRow], np.ndarray]:
    """Cluster at every eps and describe what comes out.

    Args:
        distances: of one view.
        camera_ids: (N,) integers, or None where the cameras are unknown.
        cluster: eps -> labels (N,).
        grid: S radii, ascending.
        progress: wraps the grid, e.g. in a progress bar.

    Returns:
        A row for each eps, and the labels (S, N) int64.
    """
    distances.keep_within(grid[-1])
    labels = np.stack([cluster(eps) for eps in progress(grid)])
    averages = mean_silhouettes(distances, labels)
    rows = []
    for number, eps in enumerate(grid):
        images = len(labels[number])
        counts = describe_labels(
            make_pseudo_labels(labels[number], np.empty((images, 0))), camera_ids
        )
        stability = label_stability(labels[number - 1], labels[number]) if number else {}
        rows.append(
            ScanRow(
                eps=eps,
                clusters=int(counts["clusters"]),
                kept=counts["kept"] / images,
                cross_camera=counts.get("cross_camera"),
                largest=counts["largest"] / images,
                silhouette=averages[number],
                stability=stability.get("stability_ari"),
                crowded=holds_too_many(int(counts["largest"]), images),
            )
        )
    return rows, labels


def recommend(rows: Sequence[ScanRow]) -> tuple[float, str]:
    """The eps to take, by a rule that looks at no identity.

    Of the eps that give two or more clusters the one with the greatest mean silhouette of all
    images, where an image in no cluster counts 0. Of equal ones the middle one.

    Args:
        rows: of a scan, at least one.

    Returns:
        eps, and why it should not be trusted: one cluster holds more than a tenth of the images, or
        no eps gives two clusters, and it is the one that keeps most images. Empty if it may be.
    """
    several = [row for row in rows if row.clusters >= 2]
    if several:
        best = _middle_of_best(several, [row.score for row in several])
        doubt = (
            f"At the recommended eps {best.eps:.4g} one cluster holds {best.largest:.0%} of the "
            "images, more than a tenth: one person is seen very often, there are only a few "
            "people, or the features do not tell them apart; look at the clusters."
        )
        return best.eps, doubt if best.crowded else ""
    best = _middle_of_best(rows, [row.kept for row in rows])
    return best.eps, (
        f"None of the {len(rows)} eps from {rows[0].eps:.4g} to {rows[-1].eps:.4g} gives two "
        f"clusters, so {best.eps:.4g} is not usable; try others by UDA.CLUSTER.SCAN.LOWEST and "
        "HIGHEST, or change UDA.CLUSTER or UDA.DISTANCE."
    )


def _middle_of_best(rows: Sequence[ScanRow], scores: Sequence[float]) -> ScanRow:
    best = [row for row, score in zip(rows, scores, strict=True) if score == max(scores)]
    return best[len(best) // 2]
