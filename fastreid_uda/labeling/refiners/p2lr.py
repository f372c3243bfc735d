"""P2LR: train on the images whose labels are the least uncertain, on more of them in each round."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from ...errors import UserError
from ..camera_normalization import normalize_rows
from ..types import PseudoLabels, class_centroids, kept_in_all
from ..uncertainty import distance_to_centroid, divergence_between, divergence_from_ideal
from .base import REFINERS, STUDENT, UNNORMALIZED, RefinerInputs, check_extras

ACTIONS = ("select", "reweight")
"""What becomes of uncertain images: they are dropped, or weigh exp(-u)."""


@REFINERS.register
@dataclass(frozen=True)
class P2LR:
    """Probabilistic uncertainty guided progressive label refinery.

    The first view decides about the images that have a label in every view: its labels, and its
    features as they were clustered, so that a label is doubted where it was made. An image that is
    dropped is missing from this round in all views and can come back in the next one; labels and
    classes stay as they are.

    Paper and code differ: the T of Eq. 10 is "the overall steps" in the paper and the number of
    rounds less one in the code, so that the last round trains on all images. We follow the code,
    but its number of images, int(N p_t), is N - 1 in the last round where p_t is a hair below 1,
    and where it is 0 all images are kept: here the last share is exactly 1, and at least one image
    is kept. As in the code all images as uncertain as the last one are kept too.

    Reference: Han, Li and Wang, "Delving into Probabilistic Uncertainty for Unsupervised Domain
    Adaptive Person Re-Identification", AAAI 2022. Code of the authors:
    https://github.com/JeyesHan/P2LR, examples/train_P2LR_kmeans.py.
    """

    # how uncertain a label is, Table 2: `kl` (divergence from the ideal one), `l2` (distance to
    # the centroid), `internal` (`kl`, by the classifier), `consistency` (of student and teacher)
    criterion: str = "kl"
    action: str = "select"  # drop the most uncertain images, or `reweight`: all, times exp(-u)
    alpha: float = 20.0  # scale of the cosines in Eq. 2, an inverse temperature
    epsilon: float = 0.99  # probability of the label in the ideal distribution, Eq. 3; in (0, 1]
    p0: float = 0.3  # share that the first round keeps, Eq. 10; the last keeps all; in (0, 1]
    h: float = 1.5  # how much faster the share grows at first than at last; 0: linearly
    extras_key: ClassVar[str] = "UDA.P2LR.CRITERION"

    def __post_init__(self) -> None:
        for key, name, known in (
            ("CRITERION", self.criterion, CRITERIA),
            ("ACTION", self.action, ACTIONS),
        ):
            if name not in known:
                raise UserError(
                    f"UDA.P2LR.{key} is {name!r}, but the known values are: {', '.join(known)}."
                )
        for key, value, accepted, allowed in (
            ("ALPHA", self.alpha, 0 < self.alpha < math.inf, "above 0"),
            ("EPSILON", self.epsilon, 0 < self.epsilon <= 1, "above 0 and at most 1"),
            ("P0", self.p0, 0 < self.p0 <= 1, "above 0 and at most 1"),
            ("H", self.h, 0 <= self.h < math.inf, "0 or more"),
        ):
            if not accepted:
                raise UserError(f"UDA.P2LR.{key} is {value}, but it must be {allowed}.")

    @property
    def extras(self) -> tuple[str, ...]:
        """What the criterion reads beside the views."""
        return CRITERIA[self.criterion].extras

    def refine(self, inputs: RefinerInputs) -> Mapping[str, PseudoLabels]:
        """Drop the most uncertain images of this round, or weigh all by their uncertainty."""
        uncertainty = self.measure(inputs)
        if self.action == "reweight":
            return {view: raw.weigh(uncertainty) for view, raw in inputs.clusters.items()}
        keep = least_uncertain(uncertainty, selected_share(inputs.progress, self.p0, self.h))
        return {
            view: replace(raw, uncertainty=uncertainty).drop(~keep)
            for view, raw in inputs.clusters.items()
        }

    def measure(self, inputs: RefinerInputs) -> np.ndarray:
        """The uncertainty u, (N,) float32; NaN for images without a label in some view.

        In float32, so that images with the same features are equally uncertain, whatever the order
        in which a matrix product adds.
        """
        check_extras(self, inputs.features)
        view, raw = next(iter(inputs.clusters.items()))
        features = normalize_rows(inputs.clustered.views[view])
        centroids = class_centroids(features, raw.labels, raw.num_classes)
        candidates = raw.drop(~kept_in_all(inputs.clusters))
        evidence = Evidence(
            features=features,
            labels=replace(candidates, centroids=centroids),
            network_features=inputs.features.views[view],
            network_labels=candidates,
            extras=inputs.features.extras,
        )
        u = CRITERIA[self.criterion].measure(self, evidence).astype(np.float32)
        measured = u[candidates.kept]
        if not (np.isfinite(measured) & (measured >= 0)).all():
            raise ValueError(
                f"Criterion '{self.criterion}' gave an uncertainty that is negative or not finite."
            )
        return np.where(candidates.kept, u, np.float32(np.nan))

    def peak(self, labels: PseudoLabels) -> float:
        """epsilon, or a `UserError` if the ideal distribution would not be largest at the label."""
        if 1 < labels.num_classes <= 1 / self.epsilon:
            raise UserError(
                f"UDA.P2LR.EPSILON is {self.epsilon}, but of {labels.num_classes} clusters the "
                f"label's own must be the most probable; set it above 1/{labels.num_classes}."
            )
        return self.epsilon


def selected_share(progress: float, p0: float, h: float) -> float:
    """p_t, the share of the images that a round keeps: Eq. 10 of the paper.

        p_t = p0 + ln(1 + (e^a - 1) t/T) / h  with a = h (1 - p0).

    With e^a taken out of the logarithm, which can then neither overflow nor miss the end, it is

        p_t = 1 + ln(1 + (1 - t/T) (e^-a - 1)) / h.

    Args:
        progress: t/T, 0 in the first round and 1 in the last.
        p0: the share at progress 0, in (0, 1].
        h: 0 or more; at 0 the limit of the formula, p0 + (1 - p0) t/T.

    Returns:
        In [p0, 1]; exactly p0 at progress 0 and 1 at progress 1.
    """
    if progress <= 0:
        return p0
    if progress >= 1:
        return 1.0
    if h == 0:
        return p0 + (1 - p0) * progress
    share = 1 + math.log1p((1 - progress) * math.expm1(-h * (1 - p0))) / h
    return min(1.0, max(p0, share))


def selected_count(num: int, share: float) -> int:
    """How many of `num` images a share is: rounded down, but at least 1 if there are any."""
    # The guard makes a whole number whole: 0.29 * 100 is 28.999999999999996 in floats.
    return min(num, max(1, math.floor(share * num + 1e-9)))


def least_uncertain(uncertainty: np.ndarray, share: float) -> np.ndarray:
    """The images with u <= beta, Eq. 8 and 9: a share of all, and those that tie with the last.

    Args:
        uncertainty: (N,), NaN for images that are no candidates and are not kept.
        share: of the candidates, in (0, 1].

    Returns:
        (N,) bool.
    """
    candidates = uncertainty[~np.isnan(uncertainty)]
    if len(candidates) == 0:
        return np.zeros(len(uncertainty), dtype=bool)
    last = selected_count(len(candidates), share) - 1
    beta = np.partition(candidates, last)[last]
    return uncertainty <= beta


class Evidence(NamedTuple):
    """What a criterion sees of the first view.

    Attributes:
        features: (N, D) unit rows, as they were clustered.
        labels: of the candidates, with the centroids of `features`.
        network_features: (N, D) unit rows, as the network gave them, before camera normalisation.
        network_labels: the same labels with the centroids of `network_features`, which are the rows
            of the network's classifier as the round begins.
        extras: name -> (N, D).
    """

    features: np.ndarray
    labels: PseudoLabels
    network_features: np.ndarray
    network_labels: PseudoLabels
    extras: Mapping[str, np.ndarray]


class Criterion(NamedTuple):
    """A function that measures uncertainty, and the extras that it reads.

    It gives (N,) float, 0 or more; larger is more doubtful. What it says of images without a label
    does not count.
    """

    measure: Callable[[P2LR, Evidence], np.ndarray]
    extras: tuple[str, ...]


CRITERIA: dict[str, Criterion] = {}
"""The values of UDA.P2LR.CRITERION."""


def criterion(*extras: str) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Make a function a criterion under its own name (a decorator).

    Args:
        extras: names of those that it reads.
    """

    def register(measure: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        CRITERIA[measure.__name__] = Criterion(measure, extras)
        return measure

    return register


@criterion()
def kl(method: P2LR, seen: Evidence) -> np.ndarray:
    """The paper's: KL(Q || P), P of the external classifier, Eq. 2 to 4."""
    peak = method.peak(seen.labels)
    return divergence_from_ideal(seen.features, seen.labels, method.alpha, peak)


@criterion()
def l2(method: P2LR, seen: Evidence) -> np.ndarray:
    """Table 2, "l2 distance": to the centroid of the label, which has unit length like images."""
    return distance_to_centroid(seen.features, seen.labels)


@criterion(UNNORMALIZED)
def internal(method: P2LR, seen: Evidence) -> np.ndarray:
    """Table 2, "Internal classifier": as `kl`, with the network's own logits W b for P.

    The paper says no more. We take the classifier as the round begins, when its rows are the
    centroids W, and the mean of the teachers' logits, which is W times the mean of their features.
    """
    peak = method.peak(seen.network_labels)
    return divergence_from_ideal(seen.extras[UNNORMALIZED], seen.network_labels, 1.0, peak)


@criterion(STUDENT)
def consistency(method: P2LR, seen: Evidence) -> np.ndarray:
    """Table 2, "Consistency": KL(teacher || student) of the external classifier, as in UNRN."""
    student = normalize_rows(seen.extras[STUDENT])
    return divergence_between(seen.network_features, student, seen.network_labels, method.alpha)
