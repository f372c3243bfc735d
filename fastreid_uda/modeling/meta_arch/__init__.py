"""Meta-architectures; every module of this folder registers itself with fast-reid."""

from ...registry import import_siblings

import_siblings(__name__, list(__path__))
