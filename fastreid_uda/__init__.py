"""Unsupervised domain adaptation for person re-identification, as a plug-in for fast-reid.

Importing the package imports the standard library only, so that `fastreid_uda.labeling` can be
used where there is no torch and no fast-reid: the public names below load their module when first
asked for. It does prepare this process for fast-reid, see `fastreid_uda.compat`; therefore import
it before any module of fast-reid.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import compat

if TYPE_CHECKING:  # for type checkers, which do not call `__getattr__`
    from .config import add_uda_config
    from .engine.trainer import UDATrainer
    from .errors import UserError
    from .labeling.pipeline import PseudoLabeler
    from .labeling.types import OUTLIER, FeatureSet, PseudoLabels

__version__ = "0.1.0"

_HOMES = {
    "OUTLIER": "labeling.types",
    "FeatureSet": "labeling.types",
    "PseudoLabeler": "labeling.pipeline",
    "PseudoLabels": "labeling.types",
    "UDATrainer": "engine.trainer",
    "UserError": "errors",
    "add_uda_config": "config",
}

__all__ = [
    "OUTLIER",
    "FeatureSet",
    "PseudoLabeler",
    "PseudoLabels",
    "UDATrainer",
    "UserError",
    "add_uda_config",
]

compat.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
