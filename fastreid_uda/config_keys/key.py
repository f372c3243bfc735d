"""What is known of one config key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

HOST: Final = object()
"""The default of a key of fast-reid's own that is only described here, not made."""


@dataclass(frozen=True)
class Key:
    """A key, its default value and what it means; the config and docs/config.md are made of these.

    Attributes:
        name: in full, e.g. `UDA.ROUNDS`.
        default: of the kind that the key takes (write 2.0 where 2.5 is accepted), or `HOST`.
        meaning: one or more sentences in Markdown, without a full stop at the end. Links are
            relative to docs/.
        choices: the values, or the members of the list, that are accepted; () if there are others.
    """

    name: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
