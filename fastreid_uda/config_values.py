"""Puts values of files and of the command line into a config, each of its key's kind."""

from __future__ import annotations

import ast
import datetime
import difflib
import warnings
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from .errors import UserError

EPS_KEY = "UDA.CLUSTER.EPS"
"""A number, a word or None: the only key whose values are not all of one kind."""

NUMBERS = (
    "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.REA.VALUE", "INPUT.CROP.SCALE",
    "INPUT.CROP.RATIO", "DATALOADER.SET_WEIGHT", "SOLVER.STEP_FACTORS", "MODEL.LOSSES.PARTS.SCALES",
)  # fmt: skip
"""Keys of lists of numbers."""
INTEGERS = (
    "SOLVER.STEPS", "INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST", "INPUT.CROP.SIZE",
    "MODEL.BACKBONE.STRIDE_SIZE",
)  # fmt: skip
"""Keys of lists of integers."""

_KINDS = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list, e.g. \"['a', 'b']\"",
    tuple: "a list, e.g. \"('a',)\" or \"('a', 'b')\"",
}
_BOOLEANS = {"true": True, "false": False}


def merge_mapping(cfg: Any, content: Mapping[Any, Any], place: str, prefix: str = "") -> None:
    """Set the keys of nested mappings.

    Args:
        cfg: the config, changed in place.
        content: its keys or groups of keys; a group that is None is left as it is.
        place: where they come from, for messages.
        prefix: of the keys in full, e.g. "UDA.".

    Raises:
        UserError: a key does not exist, or has a value of another kind.
    """
    for name, value in content.items():
        key = f"{prefix}{name}"
        node = get(cfg, prefix)
        if not isinstance(name, str) or name not in node:
            raise _dotted(cfg, key, name, value, place) or _unknown(cfg, key, place)
        if isinstance(node[name], CfgNode) and (value is None or isinstance(value, Mapping)):
            merge_mapping(cfg, value or {}, place, f"{key}.")
        else:
            node[name] = _accepted(node[name], value, key, place)


def merge_pair(cfg: Any, key: str, value: Any, place: str) -> None:
    """Set one key, given in full; errors as of `merge_mapping`."""
    prefix, name = key[: key.rfind(".") + 1], key[key.rfind(".") + 1 :]
    node = get(cfg, prefix)
    if not isinstance(node, CfgNode) or name not in node:
        raise _unknown(cfg, key, place)
    node[name] = _accepted(node[name], value, key, place)


def get(cfg: Any, key: str) -> Any:
    """The value or the group of a key given in full; None if there is none."""
    node = cfg
    for name in filter(None, key.split(".")):
        if not isinstance(node, CfgNode) or name not in node:
            return None
        node = node[name]
    return node


def all_keys(cfg: Any, prefix: str = "") -> list[str]:
    """The full names of all keys of a config."""
    keys: list[str] = []
    for name, value in cfg.items():
        keys += all_keys(value, f"{prefix}{name}.") if hasattr(value, "items") else [prefix + name]
    return keys


def _accepted(old: Any, value: Any, key: str, place: str) -> Any:
    """The value as the key takes it.

    As yacs does: text that reads as a Python literal is that literal, and lists and tuples stand
    for each other. Beyond that, an integer may stand for a float, a literal for its text, and true
    for True; and the members of a list of numbers are read like single ones, as YAML takes 1e2 for
    text.
    """
    if isinstance(old, CfgNode):
        raise UserError(
            f"{place} sets {key} to {_short(value)}, which is not accepted: it is a group of keys "
            f"such as {all_keys(old, key + '.')[0]}; set one of them."
        )
    literal = _literal(value)
    if key in NUMBERS and isinstance(literal, list | tuple):
        literal = [_literal(member) for member in literal]
    if key == EPS_KEY or old is None or type(literal) is type(old):
        return literal
    if isinstance(old, list | tuple) and isinstance(literal, list | tuple):
        return type(old)(literal)
    if isinstance(old, bool) and isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    if isinstance(old, float) and type(literal) is int and abs(literal) < 2**53:
        return float(literal)
    if isinstance(old, str) and isinstance(value, str):
        return value
    raise UserError(
        f"{place} sets {key} to {_short(value)}, which is not accepted: it must be "
        f"{_wanted(old, key, value)}."
    )


def _wanted(old: Any, key: str, value: Any) -> str:
    """What a key accepts in place of a value."""
    if key in NUMBERS + INTEGERS:
        kind = "integers" if key in INTEGERS else "numbers"
        return f'a list of {kind}, e.g. "{old or type(old)((1, 2))}"'
    quotable = isinstance(old, str) and isinstance(value, int | float | datetime.date)
    return _KINDS[type(old)] + ("; put quotes around it" if quotable else "")


def _literal(value: Any) -> Any:
    """The Python literal that a text stands for, else the text itself; other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as \d in a regular expression
            return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _short(value: Any) -> str:
    if value is None:
        return "nothing (its value is empty)"
    text = f"the date {value}" if isinstance(value, datetime.date) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _dotted(cfg: Any, key: str, name: Any, value: Any, place: str) -> UserError | None:
    """How to write a key of a file that has been written with dots; None if there is no such."""
    if not isinstance(name, str) or "." not in name:
        return None
    if key not in all_keys(cfg) and not isinstance(get(cfg, key), CfgNode):
        return None
    *groups, last = name.split(".")
    shown = value if isinstance(value, int | float) else "..."
    nested = f"{': {'.join(groups)}: {{{last}: {shown}{'}' * len(groups)}"
    return UserError(f"{place} sets {key} with dots in its name; nest it instead: {nested}")


def _unknown(cfg: Any, key: str, place: str) -> UserError:
    close = difflib.get_close_matches(key[:80], all_keys(cfg), n=1, cutoff=0.5)
    advice = f"; did you mean {close[0]}?" if close else "; see docs/config.md."
    shown = key if key.isprintable() else ascii(key)
    return UserError(f"{place} sets the key {shown}, which does not exist{advice}")
