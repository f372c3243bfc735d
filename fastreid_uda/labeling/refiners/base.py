"""What a refiner gets, what it gives back, and the registry that the config chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ...registry import Registry
from ..distances import PairwiseDistances
from ..types import FeatureSet, PseudoLabels

REFINERS = Registry("UDA.REFINERS")


@dataclass(frozen=True)
class RefinerInputs:
    """Everything known about the clusters of one round.

    Attributes:
        features: the features of all images, unit rows, before camera normalisation.
        distances: view -> the distances that were clustered; empty for clusterers that use none.
        clusters: view -> the labels as the previous stage made them.
        eps: view -> the DBSCAN radius; empty for clusterers that use none.
        round_index: 0 in the first round.
        num_rounds: the planned number of rounds.
    """

    features: FeatureSet
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
    that cannot work with every network also has the method of `ChecksViews`.
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
