"""Reads what a run has left in its OUTPUT_DIR, whole or not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..labeling.types import OUTLIER
from ..npz import read_npz
from .summary_file import read_summary

_LABEL_FILE = re.compile(r"round_(\d+)\.npz")
_KINDS = {"identities": "iu", "camera_ids": "iu", "weights": "f", "uncertainty": "f"}
"""Arrays of one value per image beside those of the views, and what they hold."""

_LARGEST = 1e15
"""Of the magnitudes that are believed; larger ones overflow in sums of squares."""


@dataclass(frozen=True)
class RoundArrays:
    """The label file of a round. Row n of every array is image n.

    Attributes:
        number: of the round, from 0.
        labels: view -> (N,) int64.
        clusters: view -> (N,) int64, as the clusterer made them.
        silhouettes: view -> (N,) float64, NaN where not known; empty in files of earlier versions.
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
        summary: what `read_summary` says; empty if it is missing.
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
        records: list[dict[str, Any]] = self.summary.get("rounds", [])
        return records

    def read_round(self, number: int) -> RoundArrays | None:
        """The labels of a round; None, and a note, if its file is damaged."""
        path = self.label_files[number]
        try:
            return read_label_file(path, number)
        except UserError as error:
            self.notes.append(f"Round {number} is left out: {error}")
            return None

    def check_images(self, number: int) -> None:
        """Forget a list of images that is not one of so many, and note it."""
        if self.images is not None and len(self.images) != number:
            self.notes.append(
                f"labels/images.txt names {len(self.images)} images, but the labels are of "
                f"{number}: no images can be shown."
            )
            self.images = None


def read_run(output_dir: str | Path) -> RunFolder:
    """Look at a run, finished or under way.

    Raises:
        UserError: the folder is none, or holds no round: neither a record nor labels.
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
    run.summary = read_summary(folder / "summary.json", run.notes)
    if not run.records and not files:
        log = folder / "log.txt"
        reason = f" ({log} says how far this one has come)" if log.is_file() else ""
        raise UserError(
            f"{folder} holds no round, neither in summary.json nor in labels/round_*.npz; give the "
            f"OUTPUT_DIR of a run that has labelled a round{reason}."
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
    rows = next(iter(labels.values())).size
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
    radii = {view: _only_value(x) for view, x in by_kind.get("eps", {}).items()}
    return RoundArrays(
        number,
        {view: _as_clusters(x, f"{path}: 'labels/{view}'") for view, x in labels.items()},
        {view: _as_clusters(x, f"{path}: 'clusters/{view}'") for view, x in clusters.items()},
        {view: _finite(x) for view, x in silhouettes.items()},
        {view: eps for view, eps in radii.items() if eps is not None},
        _usable(facts),
        *_map_of(by_kind.get("map", {}), rows),
    )


def _as_clusters(values: np.ndarray, name: str) -> np.ndarray:
    """Numbers of clusters as int64; a UserError if they cannot be those of so many images."""
    low, high = values.min(initial=0), values.max(initial=0)
    if low < OUTLIER or high >= max(1, len(values)):
        raise UserError(
            f"{name} is damaged: it holds {low if low < OUTLIER else high}, but labels of "
            f"{len(values)} images are from {OUTLIER} to {len(values) - 1}."
        )
    return values.astype(np.int64)


def _finite(values: np.ndarray) -> np.ndarray:
    """As float64; NaN (not known) for what is not finite or too large to be true."""
    values = values.astype(np.float64)
    return np.where(np.abs(values) < _LARGEST, values, np.nan)


def _usable(facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Facts as int64 or finite float64; weights that are not all finite are not known."""
    usable = {
        name: _finite(x) if _KINDS[name] == "f" else x.astype(np.int64) for name, x in facts.items()
    }
    if np.isnan(usable.get("weights", np.zeros(1))).any():
        del usable["weights"]
    return usable


def _only_value(values: np.ndarray | None) -> float | None:
    """The finite number that an array of one value holds; None for any other array."""
    if values is None or values.size != 1 or values.dtype.kind not in "fiu":
        return None
    value = float(values.reshape(()))
    return value if abs(value) < _LARGEST else None


def _map_of(
    arrays: Mapping[str, np.ndarray], images: int
) -> tuple[np.ndarray | None, np.ndarray | None, float | None]:
    """Rows, features and variance of a map that fits the labels; three times None else."""
    rows, features = arrays.get("rows"), arrays.get("features")
    if rows is None or features is None or features.ndim != 2 or rows.shape != features.shape[:1]:
        return None, None, None
    fits = len(rows) and rows.dtype.kind in "iu" and rows.min() >= 0 and rows.max() < images
    if not fits or features.dtype.kind not in "fiu" or np.isnan(_finite(features)).any():
        return None, None, None
    return rows.astype(np.int64), features, _only_value(arrays.get("variance"))


def _read_images(path: Path, notes: list[str]) -> list[str] | None:
    if not path.is_file():
        notes.append("labels/images.txt is missing: no images can be shown.")
        return None
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").split("\n")
