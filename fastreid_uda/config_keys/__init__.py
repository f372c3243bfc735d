"""The keys that are written down one by one; all others are arguments of registered classes."""

from .fastreid_nodes import FASTREID_KEYS
from .key import HOST, Key
from .labeling import LABELING_KEYS
from .run import RUN_KEYS

KEYS = (*RUN_KEYS, *LABELING_KEYS, *FASTREID_KEYS)
CHOICES = {key.name: key.choices for key in KEYS if key.choices}
"""Key -> the values that it accepts, of the keys that accept no others."""

__all__ = ["CHOICES", "FASTREID_KEYS", "HOST", "KEYS", "LABELING_KEYS", "RUN_KEYS", "Key"]
