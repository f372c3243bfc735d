"""The network as the evaluation sees it: one feature per image, of one view or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class EvaluatedNetwork(nn.Module):
    """Gives (B, D) features, so that everything that works on one feature works on several views.

    fast-reid's flip test, metrics, re-ranking and query expansion are such things.

    Args:
        network: gives (B, D) features by view in evaluation, and takes the views that are wanted.
        views: `TEST.VIEWS`.
        eta: `TEST.ETA`.
    """

    def __init__(self, network: nn.Module, views: Sequence[str], eta: float) -> None:
        super().__init__()
        self.network, self.views, self.eta = network, tuple(views), eta
        self.training = network.training  # fast-reid puts this mode back after a test

    def forward(self, batched_inputs: dict[str, Any]) -> torch.Tensor:
        """The joined features of a batch; views that are not tested are not computed."""
        return join_views(self.network(batched_inputs, self.views), self.views, self.eta)


def join_views(
    features: Mapping[str, torch.Tensor], views: Sequence[str], eta: float
) -> torch.Tensor:
    """The concatenation [v_1, sqrt(eta) v_2, sqrt(eta) v_3, ...] of unit rows.

    The squared Euclidean distance between two such rows is d_1 + eta (d_2 + d_3 + ...) with the
    squared distances d of the unit rows of each view: SECRET Eq. 3, INCLR Eq. 9. All rows have the
    same length, so that the cosine distance ranks alike.

    Args:
        features: view -> (B, D).
        views: the views that count, the one with weight 1 first; a single one is given back as it
            is, not normalised.
        eta: weight of all views but the first, 0 or more.
    """
    first, *others = (features[view] for view in views)
    if not others:
        return first
    scale = math.sqrt(eta)
    parts = [F.normalize(first.float()), *(scale * F.normalize(x.float()) for x in others)]
    return torch.cat(parts, dim=1)
