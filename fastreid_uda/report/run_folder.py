"""Reads what a run has left in its OUTPUT_DIR, whole or not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..npz import read_npz

_LABEL_FILE = re.compile(r"round_(\d+)\.npz")
_KINDS = {"identities": "iu", "camera_ids": "iu", "weights": "f", "uncertainty": "f"}
"""Arrays of one value per image beside those of the views, and what they hold."""


@dataclass(frozen=True)
class RoundArrays:
    """The label file of a round. Row n of every array is image n.

    Attributes:
        number: of the round, from 0.
        labels: view -> (N,) int64.
        clusters: view -> (N,) int64, as the clusterer made them.
        silhouettes: view -> (N,) float, empty in files of earlier versions.
        eps: view -> the radius, where there is one.
        facts: `identities`, `camera_ids`, `weights` and `uncertainty`, (N,), those that are known.
        map_rows: (M,) int64, the images of the map of features; None if there is none.
        map_features: (M, P) float.
        map_variance: the share of the variance that they keep.
    """

    number: int
    labels: Mapping[str, np.ndarray]
    clusters: Mapping[str, np.ndarray]
    silhouettes: Mapping[str, np.ndarray]
    eps: Mapping[str, float]
    facts: Mapping[str, np.ndarray]
    map_rows: np.ndarray | None = None
    map_features: np.ndarray | None = None
    map_variance: float | None = None

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.labels[self.first_view])

    @property
    def first_view(self) -> str:
        """The name of the view that scores and sheets are about."""
        return next(iter(self.labels))

    def fact(self, name: str) -> np.ndarray | None:
        """(N,), or None if it is not known."""
        return self.facts.get(name)


@dataclass
class RunFolder:
    """A run as it lies in its folder.

    Attributes:
        path: OUTPUT_DIR.
        summary: of summary.json; empty if it is missing.
        label_files: number of the round -> path, ascending.
        images: their paths in the order of the labels; None if they are not known.
        notes: what is missing or damaged, one sentence each.
    """

    path: Path
    summary: dict[str, Any]
    label_files: dict[int, Path]
    images: list[str] | None
    notes: list[str] = field(default_factory=list)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Those of the finished rounds, as summary.json has them."""
        records = self.summary.get("rounds")
        known = records if isinstance(records, list) else []
        return [r for r in known if isinstance(r, dict) and isinstance(r.get("round"), int)]

    def read_round(self, number: int) -> RoundArrays | None:
        """The labels of a round; None, and a note, if its file is damaged."""
        path = self.label_files[number]
        try:
            return read_label_file(path, number)
        except UserError as error:
            self.notes.append(f"Round {number} is left out: {error}")
            return None


def read_run(output_dir: str | Path) -> RunFolder:
    """Look at a run, finished or under way.

    Raises:
        UserError: the folder is none, or holds neither a summary nor labels.
    """
    folder = Path(output_dir)
    if not str(output_dir) or not folder.is_dir():
        raise UserError(f"{output_dir or 'OUTPUT_DIR'} is no folder; give the OUTPUT_DIR of a run.")
    files = {
        int(match[1]): path
        for path in sorted(folder.glob("labels/round_*.npz"))
        if (match := _LABEL_FILE.fullmatch(path.name))
    }
    run = RunFolder(folder, {}, dict(sorted(files.items())), None)
    run.summary = _read_summary(folder / "summary.json", run.notes)
    if not run.summary and not files:
        raise UserError(
            f"{folder} holds neither summary.json nor labels/round_*.npz; give the OUTPUT_DIR of a "
            "run that has labelled a round."
        )
    missing = [
        str(record["round"])
        for record in run.records
        if "clusters" in record and "collapsed" not in record and record["round"] not in files
    ]
    if missing:
        run.notes.append(
            f"The label files of round(s) {', '.join(missing)} are missing; what is counted from "
            "them is left out."
        )
    run.images = _read_images(folder / "labels/images.txt", run.notes) if files else None
    return run


def read_label_file(path: Path, number: int) -> RoundArrays:
    """The arrays of a label file.

    Raises:
        UserError: one sentence that names the file and what is wrong with it.
    """
    arrays = read_npz(path)
    by_kind: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        kind, _, view = name.partition("/")
        by_kind.setdefault(kind, {})[view] = values
    labels = by_kind.get("labels", {})
    if not labels:
        raise UserError(f"{path}: there is no array 'labels/<view>'; is it a label file?")
    rows = len(next(iter(labels.values())))
    clusters = {view: by_kind.get("clusters", {}).get(view, own) for view, own in labels.items()}
    silhouettes = by_kind.get("silhouette", {})
    facts = {name: arrays[name] for name in _KINDS if name in arrays}
    checked = [(f"labels/{view}", x, "iu") for view, x in labels.items()]
    checked += [(f"clusters/{view}", x, "iu") for view, x in clusters.items()]
    checked += [(f"silhouette/{view}", x, "f") for view, x in silhouettes.items()]
    checked += [(name, x, _KINDS[name]) for name, x in facts.items()]
    for name, values, kinds in checked:
        if values.shape != (rows,) or values.dtype.kind not in kinds:
            raise UserError(
                f"{path}: '{name}' is {values.dtype} of shape {values.shape}, but one "
                f"{'float' if kinds == 'f' else 'integer'} for each of {rows} images is needed."
            )
    eps = {view: float(x) for view, x in by_kind.get("eps", {}).items() if x.size == 1}
    return RoundArrays(
        number, labels, clusters, silhouettes, eps, facts, *_map_of(by_kind.get("map", {}), rows)
    )


def _map_of(
    arrays: Mapping[str, np.ndarray], images: int
) -> tuple[np.ndarray | None, np.ndarray | None, float | None]:
    """Rows, features and variance of a map that fits the labels; three times None else."""
    rows, features = arrays.get("rows"), arrays.get("features")
    if rows is None or features is None or features.ndim != 2 or rows.shape != features.shape[:1]:
        return None, None, None
    fits = len(rows) and rows.dtype.kind in "iu" and rows.min() >= 0 and rows.max() < images
    if not fits or not np.isfinite(features).all():
        return None, None, None
    variance = arrays.get("variance")
    return rows, features, None if variance is None else float(variance)


def _read_summary(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        notes.append("summary.json is missing: method, scores, time and memory are not known.")
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=lambda _: None)  # NaN says nothing
    except (OSError, ValueError, RecursionError):  # ValueError: no JSON, or not UTF-8
        content = None
    if not isinstance(content, dict):
        notes.append("summary.json is damaged: method, scores, time and memory are not known.")
        return {}
    return content


def _read_images(path: Path, notes: list[str]) -> list[str] | None:
    if not path.is_file():
        notes.append("labels/images.txt is missing: no images can be shown.")
        return None
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").split("\n")
