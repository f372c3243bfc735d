"""Reads summary.json: after this every entry that the report uses has the type it should have."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCORES = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP")
SCORE = re.compile(rf"(teacher_\d+/)?({'|'.join(map(re.escape, SCORES))})")
"""The names of test scores in a record."""

_LARGEST = 1e15
"""Of the figures that are believed: counts, seconds, MiB and scores are smaller by far."""

_NAMED = 5  # wrong entries that the note names

_Check = Callable[[Any, str, list[str]], Any]
"""A value, the name of its entry and the names of wrong entries -> the value, or None if wrong."""


def read_summary(path: Path, notes: list[str]) -> dict[str, Any]:
    """The content of summary.json; {} and a note if there is none.

    Entries of a wrong type are None, or left out of their list, and one note names them.
    """
    if not path.is_file():
        notes.append(
            "summary.json is missing: method, scores, time and memory are not known, and all "
            "rounds are counted from their labels."
        )
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        # NaN and infinities say nothing.
        content = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except (OSError, ValueError, RecursionError):  # ValueError: no JSON, or not UTF-8
        content = None
    if not isinstance(content, dict):
        notes.append("summary.json is damaged: method, scores, time and memory are not known.")
        return {}
    wrong: list[str] = []
    known = {key: check(content.get(key), key, wrong) for key, check in _ENTRIES.items()}
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        notes.append(
            "summary.json is damaged: entries of a wrong type are left out "
            f"({', '.join(wrong[:_NAMED])}{more})."
        )
    return {key: value for key, value in known.items() if value is not None}


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _leaf(is_right: Callable[[Any], bool]) -> _Check:
    def check(value: Any, name: str, wrong: list[str]) -> Any:
        if value is None or is_right(value):
            return value
        wrong.append(name)
        return None

    return check


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


_as_is: _Check = _leaf(lambda _: True)
_number: _Check = _leaf(_is_number)
_whole: _Check = _leaf(_is_whole)
_round: _Check = _leaf(lambda value: _is_whole(value) and 0 <= value < 1e9)
_text: _Check = _leaf(lambda value: isinstance(value, str))


def _mapping(check_of: Callable[[str], _Check]) -> _Check:
    """A check of a mapping, each entry of which has the check of its name."""

    def check(value: Any, name: str, wrong: list[str]) -> Any:
        if isinstance(value, dict):
            return {k: check_of(k)(inner, f"{name}.{k}", wrong) for k, inner in value.items()}
        return _leaf(lambda _: False)(value, name, wrong)

    return check


def _list(of: _Check, is_whole: Callable[[dict[str, Any]], bool]) -> _Check:
    """A check of a list of mappings; those that lack what they need are left out of it."""

    def check(value: Any, name: str, wrong: list[str]) -> Any:
        if not isinstance(value, list):
            return _leaf(lambda _: False)(value, name, wrong)
        kept = []
        for place, one in enumerate(value):
            before = len(wrong)
            entry = of(one, f"{name}[{place}]", wrong)
            if entry is not None and is_whole(entry):
                kept.append(entry)
            elif len(wrong) == before:
                wrong.append(f"{name}[{place}]")
        return kept

    return check


_numbers = _mapping(lambda _: _number)
_COUNTS = ("clusters", "outliers", "kept", "eps", "near_eps")
_COSTS = ("train_seconds", "test_seconds", "peak_rss_mb")
_RECORD: dict[str, _Check] = {
    "round": _round,
    "quality": _numbers,
    "seconds": _numbers,
    "peak_mb": _numbers,
    "kept_after": _mapping(lambda _: _mapping(lambda _: _numbers)),
    **dict.fromkeys((*_COUNTS, *_COSTS), _number),
}
_WARNING: dict[str, _Check] = {"round": _round, "text": _text, "times": _whole}


def _of_scores(key: str) -> _Check:
    return _number if SCORE.fullmatch(key) else _round if key == "round" else _as_is


_record = _mapping(lambda key: _RECORD.get(key) or _of_scores(key))
_warning = _mapping(lambda key: _WARNING.get(key, _as_is))

_ENTRIES: dict[str, _Check] = {
    **dict.fromkeys(("method", "source", "target", "version", "stopped"), _text),
    "seed": _leaf(lambda value: isinstance(value, int) and not isinstance(value, bool)),
    **dict.fromkeys(("direct_transfer", "last", "best", "supervised"), _mapping(_of_scores)),
    "rounds": _list(_record, lambda record: record.get("round") is not None),
    "warnings": _list(_warning, lambda warning: warning.get("text") is not None),
}
