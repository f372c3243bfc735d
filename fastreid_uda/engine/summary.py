"""OUTPUT_DIR/summary.json and the tables on the terminal."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from fastreid.utils import comm
from tabulate import tabulate

from ..files import atomic_write

logger = logging.getLogger(__name__)

SCORES = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP")


def teacher_prefix(number: int) -> str:
    """What the names of a teacher's scores begin with; nothing for the first, which is 1."""
    return "" if number == 1 else f"teacher_{number}/"


def scores_by_teacher(record: dict[str, Any]) -> list[dict[str, float]]:
    """The scores of each teacher under their plain names; empty if nothing was tested."""
    teachers: list[dict[str, float]] = []
    while f"{(prefix := teacher_prefix(len(teachers) + 1))}mAP" in record:
        own = {name: record[prefix + name] for name in SCORES if prefix + name in record}
        teachers.append(own)
    return teachers


def best_teacher(record: dict[str, Any]) -> tuple[float, int]:
    """The highest mAP of a record and the number of its teacher, from 1; -1.0 without a test."""
    maps = [scores["mAP"] for scores in scores_by_teacher(record)]
    return (max(maps), maps.index(max(maps)) + 1) if maps else (-1.0, 1)


class RunSummary:
    """What a run found, written to a file after every change.

    Args:
        path: of the JSON file.
        header: method, source, target and seed.
    """

    def __init__(self, path: str, header: dict[str, Any]) -> None:
        self._path = path
        self.content: dict[str, Any] = dict(header)

    def load(self) -> None:
        """Take over what an interrupted run has found, if its file is there.

        The results are in its checkpoint too: of a damaged file the run only warns.
        """
        if not os.path.isfile(self._path):
            return
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            damage = "" if isinstance(found, dict) else "it holds no mapping"
        except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, or not UTF-8
            damage = str(error)
        if not damage:
            self.content = found | self.content
        elif comm.is_main_process():
            logger.warning(
                "%s cannot be read (%s) and is made anew from the checkpoint.", self._path, damage
            )

    def update(self, **entries: Any) -> None:
        """Set entries and write the file."""
        self.content |= entries
        with atomic_write(self._path) as file:
            file.write((json.dumps(self.content, indent=2) + "\n").encode())

    def set_rounds(self, records: list[dict[str, Any]], **entries: Any) -> None:
        """Set the rounds, the last and the best one (by the labelled test set), and more."""
        scored = [record for record in records if "mAP" in record]
        best = max(scored, key=lambda record: best_teacher(record)[0], default={})
        if best:
            several, chosen = len(scores_by_teacher(best)) > 1, best_teacher(best)[1]
            plain = {k: v for k, v in best.items() if not k.startswith("teacher_")}
            prefix = teacher_prefix(chosen)
            own = {k.removeprefix(prefix): v for k, v in best.items() if k.startswith(prefix)}
            best = plain | own if prefix else plain
            best |= {"selected_by": "target test mAP"}
            best |= {"teacher": chosen} if several else {}
        last = records[-1] if records else {}
        self.update(rounds=records, last=last, best=best, **entries)


def rounds_table(records: list[dict[str, Any]]) -> str:
    """One row per round: what was labelled, how it was scored."""
    rows = []
    for record in records:
        quality = record.get("quality", {})
        rows.append(
            {
                "round": record["round"],
                "clusters": record.get("clusters"),
                "kept": record.get("kept"),
                "outliers": record.get("outliers"),
                "eps": _rounded(record.get("eps"), 4),
                "pair F1": _rounded(quality.get("pair_f1"), 3),
                "stability": _rounded(quality.get("stability_ari"), 3),
                **_consistency(quality),
                "mAP": _of_teachers(record, "mAP"),
                "Rank-1": _of_teachers(record, "Rank-1"),
                "seconds": _rounded(sum(record.get("seconds", {}).values()), 1),
            }
        )
    return tabulate(rows, headers="keys", tablefmt="simple_outline", missingval="-")


def _of_teachers(record: dict[str, Any], score: str) -> str | None:
    """A score of all teachers."""
    return " / ".join(f"{own[score]:.1f}" for own in scores_by_teacher(record)) or None


def _consistency(quality: dict[str, float]) -> dict[str, str]:
    """How far the views agree, before and after refinement."""
    if "consistency" not in quality:
        return {}
    before, after = quality["clusters/consistency"], quality["consistency"]
    return {"consistency": f"{before:.3f} -> {after:.3f}"}


def results_table(summary: dict[str, Any]) -> str:
    """One row per network: direct transfer, adapted, best round, supervised upper bound."""
    rows = []
    last: dict[str, Any] = summary.get("last") or {}
    best: dict[str, Any] = summary.get("best") or {}
    for title, scores in (
        (
            "direct transfer" if summary["source"] else "before adaptation",
            summary.get("direct_transfer"),
        ),
        (f"adapted: {summary['method']} (last round)", last),
        ("best round, chosen with target test labels", best),
        ("supervised with target labels (upper bound)", summary.get("supervised")),
    ):
        if scores is best and best.get("round") == last.get("round"):
            continue
        teachers = scores_by_teacher(scores or {})
        for number, own in enumerate(teachers, start=1):
            whose = f", teacher {number}" if len(teachers) > 1 else ""
            rows.append([title + whose, *(_rounded(own.get(name), 1) for name in SCORES)])
    if not rows:
        return ""
    return tabulate(
        rows,
        headers=["network", *SCORES],
        tablefmt="simple_outline",
        missingval="-",
        floatfmt=".1f",
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
