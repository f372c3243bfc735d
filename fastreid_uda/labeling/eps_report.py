"""Scans of eps as text and data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .quality import score_against_identities
from .types import OUTLIER

if TYPE_CHECKING:
    from .eps_scan import EpsScan, ScanRow


def table(
    rows: Sequence[ScanRow], eps: float, extras: Mapping[str, Sequence[float]] | None = None
) -> str:
    """The rows of a scan as lines of text under a header.

    Args:
        rows: of the scan.
        eps: the recommended one, whose line ends with an arrow.
        extras: further columns by name.
    """
    extras = extras or {}
    header = [
        "     eps",
        "clusters",
        "  kept",
        "cross-camera",
        "largest",
        "silhouette",
        "stability",
    ]
    lines = ["  ".join([*header, "score", *extras])]
    for number, row in enumerate(rows):
        cross = "-" if row.cross_camera is None else f"{row.cross_camera:.1%}"
        stability = "-" if row.stability is None else f"{row.stability:.3f}"
        cells = [
            f"{row.eps:8.4g}", f"{row.clusters:8d}", f"{row.kept:6.1%}", f"{cross:>12}",
            f"{row.largest:7.1%}", f"{row.silhouette:10.3f}", f"{stability:>9}",
            f"{row.score:5.3f}",
            *(f"{values[number]:{len(name)}.3f}" for name, values in extras.items()),
        ]  # fmt: skip
        lines.append("  ".join(cells) + (" <-" if row.eps == eps else ""))
    return "\n".join(lines)


def pair_f1(labels: np.ndarray, identities: np.ndarray) -> list[float]:
    """The pair F1 of a scan's labels, for reports: an image in no cluster is in no pair.

    Unlike that of `score_against_identities`, which only looks at images in clusters, it falls when
    an eps leaves most images out.

    Args:
        labels: (S, N) int64.
        identities: (N,) true identities; an image with -1 has none and takes no part.

    Returns:
        S values in [0, 1].
    """
    alone = labels.shape[1] + np.arange(labels.shape[1])
    apart = np.where(labels == OUTLIER, alone, labels)
    return [score_against_identities(row, identities).get("pair_f1", 0.0) for row in apart]


def pair_f1_of_scans(
    scans: Mapping[str, EpsScan], identities: np.ndarray | None
) -> dict[str, list[float]]:
    """View -> `pair_f1` at each eps; empty where there are no identities (N,)."""
    if identities is None:
        return {}
    return {view: pair_f1(scan.labels, identities) for view, scan in scans.items()}


def as_text(scans: Mapping[str, EpsScan], truth: Mapping[str, Sequence[float]]) -> str:
    """A table for each view, under the recommended eps and what speaks against it.

    Args:
        scans: view -> its scan.
        truth: view -> its pair F1 at each eps; empty where there are no identities.
    """
    parts = []
    for view, scan in scans.items():
        extras = {"pair F1": truth[view]} if truth else {}
        lines = [f"View '{view}': recommended UDA.CLUSTER.EPS {scan.eps:.4g}", scan.doubt]
        parts.append("\n".join([*filter(None, lines), table(scan.rows, scan.eps, extras)]))
    return "\n\n".join(parts)


def as_json(scans: Mapping[str, EpsScan], truth: Mapping[str, Sequence[float]]) -> str:
    """One line: view -> eps, doubt and rows; arguments as those of `as_text`."""
    views = {
        view: {"eps": scan.eps, "doubt": scan.doubt, "rows": _records(scan, truth.get(view))}
        for view, scan in scans.items()
    }
    return json.dumps(views)


def as_csv(scans: Mapping[str, EpsScan], truth: Mapping[str, Sequence[float]]) -> str:
    """A line for each view and eps, 1 in the column `recommended`; arguments as in `as_text`."""
    lines = [
        {"view": view, **record, "recommended": int(record["eps"] == scan.eps)}
        for view, scan in scans.items()
        for record in _records(scan, truth.get(view))
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")


def _records(scan: EpsScan, truth: Sequence[float] | None) -> list[dict[str, Any]]:
    records = [{**asdict(row), "score": row.score} for row in scan.rows]
    for number, value in enumerate(truth or ()):
        records[number]["pair_f1"] = value
    return records
