"""The warnings of a run, kept for its end, where somebody reads them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import UDATrainer

LOGGER = "fastreid_uda"
"""Ours alone: what fast-reid and torch warn of is in the log file."""


class RunWarnings(logging.Handler):
    """Keeps each warning once, with the round of its trainer and how often it came.

    What comes while a trainer works goes into its `memory`, and so into its checkpoint: a resumed
    run knows the warnings of the rounds before, and those of a round that is done again come again.

    Args:
        earlier: entries of an interrupted run, of which those without a round are kept.
    """

    def __init__(self, earlier: list[dict[str, Any]] | None = None) -> None:
        super().__init__(logging.WARNING)
        self._trainer: UDATrainer | None = None
        self._outside = [entry for entry in earlier or () if entry["round"] is None]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """`round` (None outside of the adaptation), `text` and `times` of each, in order."""
        inside = [] if self._trainer is None else self._trainer.memory.get("warnings", [])
        return [*self._outside, *inside]

    def follow(self, trainer: UDATrainer) -> None:
        """From now on warnings are of this trainer."""
        self._trainer = trainer

    def emit(self, record: logging.LogRecord) -> None:
        """Called for every warning and error of our loggers."""
        kept, number = self._outside, None
        if self._trainer is not None:
            kept = self._trainer.memory.setdefault("warnings", [])
            number = self._trainer.round
        text = record.getMessage()
        for entry in kept:
            if (entry["round"], entry["text"]) == (number, text):
                entry["times"] += 1
                return
        kept.append({"round": number, "text": text, "times": 1})


@contextmanager
def kept_warnings(earlier: list[dict[str, Any]] | None = None) -> Iterator[RunWarnings]:
    """Keep the warnings that are logged inside the block; see `RunWarnings`."""
    handler = RunWarnings(earlier)
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)


@contextmanager
def said_later() -> Iterator[None]:
    """Keep what is only looked at from being logged; it is when it is done."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def warnings_list(entries: list[dict[str, Any]]) -> str:
    """One line per warning for the end of a run; those that differ in numbers alone share one."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(re.sub(r"\d[\d.,]*", "#", entry["text"]), []).append(entry)
    return "\n".join(f"- {_line(group)}" for group in groups.values())


def _line(group: list[dict[str, Any]]) -> str:
    """The last of some warnings, and how many there were in which rounds."""
    times = sum(entry["times"] for entry in group)
    rounds = sorted({entry["round"] for entry in group if entry["round"] is not None})
    where = f"rounds {rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else ""
    if len(rounds) == 1:
        where = f"round {rounds[0]}"
    notes = ", ".join(filter(None, [f"{times} times" if times > 1 else "", where]))
    return group[-1]["text"] + (f" ({notes})" if notes else "")
