"""All figures of a report as one dictionary of plain values: what report.json holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import __version__
from ..errors import UserError
from ..labeling.identity_scores import mixed_and_fragmented
from ..labeling.types import OUTLIER
from .feature_maps import draw_maps, rounds_to_map
from .round_figures import (
    counts_within,
    histogram_edges,
    record_of,
    silhouette_kind,
    uncertainty_groups,
    view_figures,
)
from .run_folder import RoundArrays, RunFolder
from .sheets import Groups, doubtful_clusters, example_clusters, fragmented_identities, group
from .summary_file import SCORE

FORMAT = 1
"""Of report.json; another number when an entry changes its meaning."""


@dataclass(frozen=True)
class Wishes:
    """What a report is to show.

    Attributes:
        map_rounds: rounds of the map at most; 0: there is none.
        clusters: clusters in each of the contact sheets.
        round: whose clusters are shown; None: the last one.
    """

    map_rounds: int = 8
    clusters: int = 10
    round: int | None = None


@dataclass(frozen=True)
class Content:
    """A report before it is drawn.

    Attributes:
        figures: of report.json, see docs/report.md.
        uncertainties: round -> what `uncertainty_groups` says, for TensorBoard.
    """

    figures: dict[str, Any]
    uncertainties: dict[int, dict[str, np.ndarray]]


@dataclass
class _Counted:
    """What the label files say, each read once."""

    records: dict[int, dict[str, Any]]
    labels: list[dict[str, Any]] = field(default_factory=list)
    uncertainties: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    mapped: list[RoundArrays] = field(default_factory=list)
    last: RoundArrays | None = None
    shown: RoundArrays | None = None


def _count(run: RunFolder, wishes: Wishes) -> _Counted:
    """Read all label files, one after the other."""
    counted = _Counted({record["round"]: record for record in run.records})
    mapped = rounds_to_map(list(run.label_files), wishes.map_rounds)
    for number in run.label_files:
        arrays = run.read_round(number)
        if arrays is None:
            continue
        if number not in counted.records:
            kind = silhouette_kind(arrays, run.records)
            counted.records[number] = record_of(arrays, counted.last, kind)
        if counted.last is not None and counted.last.num_images != arrays.num_images:
            run.notes.append(
                f"Round {number} has labels of {arrays.num_images} images, the round before of "
                f"{counted.last.num_images}: image numbers do not mean the same images in both."
            )
        cameras = arrays.fact("camera_ids")
        views = {view: view_figures(x, cameras) for view, x in arrays.labels.items()}
        counted.labels.append({"round": number, "views": views})
        uncertainties = uncertainty_groups(arrays)
        if uncertainties:
            counted.uncertainties[number] = uncertainties
        if number in mapped and arrays.map_rows is not None:
            counted.mapped.append(arrays)
        counted.last = arrays
        if wishes.round in (None, number):
            counted.shown = arrays
    if not counted.records:
        raise UserError(f"{run.path} holds no round that can be shown. {run.notes[-1]}")
    return counted


def collect(run: RunFolder, wishes: Wishes) -> Content:
    """All figures of a run."""
    counted = _count(run, wishes)
    summary, shown = run.summary, counted.shown
    groups = None if shown is None else group(shown)
    if shown is not None:
        run.check_images(shown.num_images)
    figures = {
        "format": FORMAT,
        "made_by": f"fastreid_uda {__version__}",
        "run": _facts(run, counted.last),
        "scores": {
            name: scores_of(summary.get(name))
            for name in ("direct_transfer", "last", "best", "supervised")
        },
        "best_round": summary.get("best", {}).get("round"),
        "last_round": summary.get("last", {}).get("round"),
        "warnings": [
            {"round": w.get("round"), "text": w["text"], "times": w.get("times") or 1}
            for w in summary.get("warnings", [])
        ],
        "rounds": [counted.records[number] for number in sorted(counted.records)],
        "labels": counted.labels,
        "uncertainty": _histograms(counted.uncertainties),
        "map": _map(counted.mapped, summary.get("seed", 0) % 2**32),  # what t-SNE accepts
        "sheets": None if groups is None else _sheets(groups, wishes, run),
        "notes": run.notes,
    }
    return Content(figures, counted.uncertainties)


def scores_of(record: dict[str, Any] | None) -> dict[str, float]:
    """The test scores of a record, in per cent: "mAP", "teacher_2/mAP", ..."""
    known = {} if record is None else record
    return {k: value for k, value in known.items() if SCORE.fullmatch(k) and value is not None}


def _facts(run: RunFolder, last: RoundArrays | None) -> dict[str, Any]:
    """Of which run it is, and what is known of its images."""
    names = ("method", "source", "target", "seed", "version", "stopped")
    facts: dict[str, Any] = {name: run.summary.get(name) for name in names}
    facts["output_dir"] = str(run.path)
    facts |= {"images": None, "views": [], "identities": None, "cameras": None}
    if last is not None:
        facts |= {"images": last.num_images, "views": list(last.labels)}
        for name, key in (("identities", "identities"), ("cameras", "camera_ids")):
            values = last.fact(key)
            if values is not None:
                facts[name] = len(np.unique(values[values != OUTLIER]))
    return facts


def _histograms(uncertainties: dict[int, dict[str, np.ndarray]]) -> dict[str, Any] | None:
    """Counts of all rounds in the same bins."""
    if not uncertainties:
        return None
    edges = histogram_edges([x for groups in uncertainties.values() for x in groups.values()])
    rounds = [
        {"round": number} | {name: counts_within(x, edges) for name, x in groups.items()}
        for number, groups in uncertainties.items()
    ]
    return {"edges": edges, "rounds": rounds}


def _map(rounds: list[RoundArrays], seed: int) -> dict[str, Any] | None:
    """The places of the images and what they are coloured by."""
    if not rounds:
        return None
    drawn, seconds = draw_maps(
        [(a.number, a.map_rows, a.map_features, a.map_variance) for a in rounds
         if a.map_rows is not None and a.map_features is not None],
        seed,
    )  # fmt: skip
    entries = [
        {
            "round": plane.number,
            "rows": plane.rows.tolist(),
            "x": plane.places[:, 0].round(4).tolist(),
            "y": plane.places[:, 1].round(4).tolist(),
            "variance": plane.variance,
            **_colors(arrays, plane.rows),
        }
        for plane, arrays in zip(drawn, rounds, strict=True)
    ]
    return {"rounds": entries, "measure": group(rounds[-1]).measure, "seconds": round(seconds, 2)}


def _colors(arrays: RoundArrays, rows: np.ndarray) -> dict[str, list[Any]]:
    """What is known of some images of a round, one value for each."""
    view, groups = arrays.first_view, group(arrays)
    known = {"label": arrays.labels[view], "cluster": arrays.clusters[view]}
    identities, cameras = arrays.fact("identities"), arrays.fact("camera_ids")
    if identities is not None:
        known |= {"identity": identities, "kind": kinds_of_error(arrays.labels[view], identities)}
    if cameras is not None:
        known["camera"] = cameras
    colors: dict[str, list[Any]] = {name: values[rows].tolist() for name, values in known.items()}
    if groups.measure:
        certainty = groups.certainty[rows].round(4).tolist()
        colors["certainty"] = [None if np.isnan(value) else value for value in certainty]
    return colors


def kinds_of_error(labels: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """(N,) int: 0 right, 1 mixed, 2 fragmented, 3 both, -1 left out or without identity."""
    mixed, fragmented = mixed_and_fragmented(labels, identities)
    known = (labels != OUTLIER) & (identities != OUTLIER)
    return np.where(known, mixed.astype(int) + 2 * fragmented, -1)


def _sheets(groups: Groups, wishes: Wishes, run: RunFolder) -> dict[str, Any]:
    """The clusters that are shown, and the facts of each image in them."""
    sheets: dict[str, Any] = {
        "round": groups.arrays.number,
        "view": groups.arrays.first_view,
        "measure": groups.measure,
        "examples": example_clusters(groups, wishes.clusters),
        "doubtful": doubtful_clusters(groups, wishes.clusters),
        "pieces": fragmented_identities(groups, max(1, wishes.clusters // 2)),
    }
    rows: set[int] = set()
    for entry in (*sheets["examples"], *sheets["doubtful"]):
        rows.update(*(entry.get(name, []) for name in ("most", "least", "rows")))
    for person in sheets["pieces"]:
        rows.update(*(piece["rows"] for piece in person["pieces"]))
    sheets["images"] = {str(row): _image(groups, row, run) for row in sorted(rows)}
    return sheets


def _image(groups: Groups, row: int, run: RunFolder) -> dict[str, Any]:
    certainty = groups.certainty[row]
    known = run.images is not None and row < len(run.images)
    facts: dict[str, Any] = {
        "path": run.images[row] if run.images is not None and known else None,
        "kept": bool(groups.kept[row]),
        "certainty": None if np.isnan(certainty) else round(float(certainty), 4),
    }
    for name, key in (("identity", "identities"), ("camera", "camera_ids")):
        values = groups.arrays.fact(key)
        facts[name] = None if values is None else int(values[row])
    known = groups.right is not None and facts["identity"] != OUTLIER
    facts["right"] = bool(groups.right[row]) if groups.right is not None and known else None
    return facts
