"""Several views of an image as one feature, whose distance is a weighted sum of theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F

from ..errors import UserError


def join_views(views: Mapping[str, torch.Tensor], names: Sequence[str], eta: float) -> torch.Tensor:
    """The concatenation [v_1, sqrt(eta) v_2, sqrt(eta) v_3, ...] of unit rows.

    The squared Euclidean distance between two such rows is d_1 + eta (d_2 + d_3 + ...) with the
    squared distances d of the unit rows of each view: SECRET Eq. 3, INCLR Eq. 9. All rows have the
    same length, so that the cosine distance ranks alike, and everything that works on one feature
    (metrics, re-ranking, query expansion) works on it.

    Args:
        views: name -> (B, D).
        names: the views that count, the one with weight 1 first; a single one is given back as it
            is, not normalised.
        eta: weight of all views but the first, 0 or more.

    Raises:
        UserError: a name is not among the views.
    """
    for name in names:
        if name not in views:
            raise UserError(
                f"TEST.VIEWS has {name!r}, but the network has the views: {', '.join(views)}."
            )
    first, *others = (views[name] for name in names)
    if not others:
        return first
    scale = math.sqrt(eta)
    parts = [F.normalize(first.float()), *(scale * F.normalize(x.float()) for x in others)]
    return torch.cat(parts, dim=1)
