"""Networks and losses, registered with fast-reid."""

from . import heads, losses, meta_arch

__all__ = ["heads", "losses", "meta_arch"]
