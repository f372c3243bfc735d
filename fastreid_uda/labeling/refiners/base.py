"""What a refiner gets, what it gives back, and the registry that the config chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ...errors import UserError
from ...registry import Registry
from ..pairwise import PairwiseDistances
from ..types import FeatureSet, PseudoLabels

REFINERS = Registry("UDA.REFINERS")

STUDENT = "student/global"
"""Extra: the mean over the students of their unit features, as the views are that of the teachers'.
"""

UNNORMALIZED = "unnormalized/global"
"""Extra: the mean over the teachers of the features that their classifiers see."""


@dataclass(frozen=True)
class RefinerInputs:
    """Everything known about the clusters of one round.

    Attributes:
        features: the features of all images, unit rows, before camera normalisation.
        clustered: the features as they were clustered, after it.
        distances: view -> the distances between the clustered features; empty if neither the
            clusterer nor a refiner uses them.
        clusters: view -> the labels as the previous stage made them.
        eps: view -> the DBSCAN radius; empty if neither the clusterer nor a refiner uses it.
        round_index: 0 in the first round.
        num_rounds: the planned number of rounds.
    """

    features: FeatureSet
    clustered: FeatureSet
    distances: Mapping[str, PairwiseDistances]
    clusters: Mapping[str, PseudoLabels]
    eps: Mapping[str, float]
    round_index: int
    num_rounds: int

    @property
    def progress(self) -> float:
        """0 in the first round, 1 in the last; 1 if there is only one."""
        return self.round_index / (self.num_rounds - 1) if self.num_rounds > 1 else 1.0


class Refiner(Protocol):
    """Labels in, labels out: same views, same images, no state, no randomness.

    A refiner is a frozen dataclass; its fields are its hyper-parameters and its config keys. One
    that cannot work with every network also has the method of `ChecksViews`, one that needs more
    than the views the property of `NeedsExtras`, one that looks at the cameras the method of
    `ChecksCameras`, one that drops images in several steps that of `HasFilters`. One that reads
    `inputs.distances` or `inputs.eps` says so with the class attribute `uses_distances` or
    `uses_eps`, so that they are there with every clusterer.
    """

    def refine(self, inputs: RefinerInputs) -> Mapping[str, PseudoLabels]:
        """The refined labels of every view in `inputs.clusters`, in the same order."""
        ...


@runtime_checkable
class ChecksViews(Protocol):
    """A refiner that asks for certain views."""

    def check_views(self, views: Sequence[str]) -> None:
        """Raise a `UserError` unless it can work with these views; called before a run starts."""
        ...


@runtime_checkable
class HasFilters(Protocol):
    """A refiner that drops images in several steps; how many each left is in every record."""

    def filters(self, inputs: RefinerInputs) -> Mapping[str, Mapping[str, PseudoLabels]]:
        """Config key below the refiner's node -> the labels after that step, in order.

        Those of the last step are what `refine` returns.
        """
        ...


@runtime_checkable
class NeedsExtras(Protocol):
    """A refiner that reads `FeatureSet.extras`.

    It may name the config key that decides about them as `extras_key`, for error messages.
    """

    @property
    def extras(self) -> tuple[str, ...]:
        """The names of those that it reads; () for none."""
        ...


def filters_of(refiner: Refiner, inputs: RefinerInputs) -> dict[str, Mapping[str, PseudoLabels]]:
    """Name of each filter of a refiner -> the labels after it, in order; the last are refined.

    The refiner's name if it is one filter, else it and the config key, `MSPLR.MIN_IMAGES`.
    """
    name = type(refiner).__name__
    if not isinstance(refiner, HasFilters):
        return {name: refiner.refine(inputs)}
    return {f"{name}.{key}": labels for key, labels in refiner.filters(inputs).items()}


def check_extras(refiner: NeedsExtras, features: FeatureSet) -> None:
    """Raise a `UserError` unless the features have all that a refiner reads beside the views."""
    for name in refiner.extras:
        if name not in features.extras:
            held = ", ".join([*features.views, *features.extras])
            key = getattr(refiner, "extras_key", REFINERS.key)
            raise UserError(
                f"{type(refiner).__name__} needs the array '{name}' beside the views (there is "
                f"{held}); add it to the feature file, or change {key}."
            )
        dimensions, view = features.extras[name].shape[1], name.rpartition("/")[2]
        if view in features.views and features.views[view].shape[1] != dimensions:
            raise UserError(
                f"'{name}' has {dimensions} columns but '{view}' has "
                f"{features.views[view].shape[1]}; both are features of one network, make them "
                "equal."
            )
