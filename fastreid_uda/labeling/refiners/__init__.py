"""One file per published refiner; every module of this folder registers itself."""

from ...registry import import_siblings
from .base import (
    REFINERS,
    ChecksViews,
    HasFilters,
    NeedsExtras,
    Refiner,
    RefinerInputs,
    check_extras,
    filters_of,
)

import_siblings(__name__, list(__path__))

__all__ = [
    "REFINERS",
    "ChecksViews",
    "HasFilters",
    "NeedsExtras",
    "Refiner",
    "RefinerInputs",
    "check_extras",
    "filters_of",
]
