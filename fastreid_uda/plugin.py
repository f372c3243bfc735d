"""Importing this module registers all parts of the plug-in with fast-reid."""

from . import compat as compat  # mends fast-reid before it is imported
from . import modeling as modeling
from .config import add_uda_config
from .data import datasets as datasets
from .engine.trainer import UDATrainer

__all__ = ["UDATrainer", "add_uda_config"]
