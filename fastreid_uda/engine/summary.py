"""OUTPUT_DIR/summary.json and the tables on the terminal."""

from __future__ import annotations

import json
import os
from typing import Any

from tabulate import tabulate

from ..errors import UserError
from ..files import atomic_write

SCORES = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP")


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
        """Take over what an interrupted run has found, if its file is there."""
        if os.path.isfile(self._path):
            try:
                with open(self._path, encoding="utf-8") as file:
                    self.content = json.load(file) | self.content
            except json.JSONDecodeError as error:
                raise UserError(f"{self._path} is damaged ({error}); remove it.") from error

    def update(self, **entries: Any) -> None:
        """Set entries and write the file."""
        self.content |= entries
        with atomic_write(self._path) as file:
            file.write((json.dumps(self.content, indent=2) + "\n").encode())

    def set_rounds(self, records: list[dict[str, Any]]) -> None:
        """Set the rounds, the last one, and the best one by the labelled test set."""
        scored = [record for record in records if "mAP" in record]
        best = max(scored, key=lambda record: record["mAP"], default=None)
        self.update(
            rounds=records,
            last=records[-1] if records else {},
            best={**best, "selected_by": "target test mAP"} if best else {},
        )


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
                "mAP": _rounded(record.get("mAP"), 1),
                "Rank-1": _rounded(record.get("Rank-1"), 1),
                "seconds": _rounded(sum(record.get("seconds", {}).values()), 1),
            }
        )
    return tabulate(rows, headers="keys", tablefmt="simple_outline", missingval="-")


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
        if not scores or "mAP" not in scores:
            continue
        if scores is not best or best.get("round") != last.get("round"):
            rows.append([title, *(_rounded(scores.get(name), 1) for name in SCORES)])
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
