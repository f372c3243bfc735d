"""The tables of docs/config.md."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from ..config_keys import FASTREID_KEYS, HOST, LABELING_KEYS, RUN_KEYS, Key
from ..config_ranges import accepted_range
from ..labeling import eps_scan as eps_scan  # registers itself
from ..labeling.clustering import CLUSTERERS
from ..labeling.distances import DISTANCES
from ..labeling.eps import EPS_RULES
from ..labeling.refiners import REFINERS
from ..registry import Registry
from .fields import field_meanings
from .tables import table

HEADER = ("key", "default", "accepts", "meaning")
PAGES = {
    "CAJaccard": "methods/options.md#camera-aware-jaccard-distance",
    "HDBSCAN": "methods/options.md#hdbscan",
    "CrossCamera": "methods/nplp.md",
    "Scan": "scan_eps.md",
    "MSPLR": "methods/msplr.md",
    "NPLP": "methods/nplp.md",
    "SECRET": "methods/secret.md",
    "P2LR": "methods/p2lr.md",
    "INCLR": "methods/inclr.md",
    "SpCL": "methods/options.md#spcls-reliability-criterion",
}
"""Class -> the page that says more of it."""
_KINDS = {bool: "True or False", int: "an integer", float: "a number", str: "text"}


def parts() -> dict[str, str]:
    """Name of a part of the page -> its text."""
    return {
        "run": key_table(RUN_KEYS),
        "labeling": key_table(LABELING_KEYS),
        "distances": class_tables(DISTANCES, "UDA.DISTANCE."),
        "eps_rules": class_tables(EPS_RULES, "UDA.CLUSTER."),
        "clusterers": class_tables(CLUSTERERS, "UDA.CLUSTER."),
        "refiners": class_tables(REFINERS, "UDA."),
        "fastreid": key_table(FASTREID_KEYS),
    }


def key_table(keys: Iterable[Key]) -> str:
    """One row for each key."""
    return table(HEADER, [_row(key.name, key.default, key.meaning, key.choices) for key in keys])


def class_tables(registry: Registry, group: str) -> str:
    """Of every registered class: its name, its first sentence, and its arguments."""
    texts = []
    for name in _ours(registry):
        cls = registry.get(name)
        summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        more = f" [More]({PAGES[name]})." if name in PAGES else ""
        texts.append(f"### {name}\n\n{summary}{more}")
        meanings, node = field_meanings(cls), f"{group}{name.upper()}."
        arguments = registry.defaults(name).items()
        rows = [_row(node + field.upper(), value, meanings[field]) for field, value in arguments]
        if rows:
            texts.append(table(HEADER, rows))
    return "\n\n".join(texts)


def _ours(registry: Registry) -> tuple[str, ...]:
    """The names of what the package registers; plug-ins may have added others."""
    package = __name__.partition(".")[0]
    return tuple(n for n in registry if registry.get(n).__module__.startswith(f"{package}."))


def _row(name: str, default: Any, meaning: str, choices: tuple[str, ...] = ()) -> list[str]:
    registries = (DISTANCES, CLUSTERERS, EPS_RULES, REFINERS)
    known = choices or next((_ours(r) for r in registries if r.key == name), ())
    accepts = ", ".join(f"`{choice}`" for choice in known) or _accepts(name, default)
    return [f"`{name}`", _shown(default), accepts, meaning]


def _accepts(name: str, default: Any) -> str:
    """The kind of the values, and their range where there is one for all configs."""
    if default is HOST or default is None:
        return ""
    kind = "a list" if isinstance(default, list | tuple) else _KINDS[type(default)]
    return ", ".join(filter(None, [kind, accepted_range(name)]))


def _shown(default: Any) -> str:
    """A default as it is written in a YAML."""
    if default is HOST:
        return "fast-reid's"
    text = repr(default).replace("'", '"')
    return f"`{text}`"
