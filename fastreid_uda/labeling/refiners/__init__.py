"""One file per published refiner; every module of this folder registers itself."""

from ...registry import import_siblings
from .base import REFINERS, ChecksViews, Refiner, RefinerInputs

import_siblings(__name__, list(__path__))

__all__ = ["REFINERS", "ChecksViews", "Refiner", "RefinerInputs"]
