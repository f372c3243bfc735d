"""Losses, one idea per file; every module of this folder registers itself.

A registered loss is a module with the arguments of its config node `MODEL.LOSSES.<node>`, called as
`loss(outputs, targets, weights)`: outputs of the head, targets (B,) int64 in [0, K), weights (B,)
float or None. It returns a scalar. B images of a batch, K classes, D dimensions.
"""

from ...registry import import_siblings
from .base import LOSSES, ClassMemory

import_siblings(__name__, list(__path__))

__all__ = ["LOSSES", "ClassMemory"]
