"""An index: the features of a folder of images, with all that is needed to search it later.

A folder with `features.npz` (as tools/label_features.py reads it), `index.csv` (row, path, camera,
identity, size and time of the file), `network.yaml` (the config of the network), `index.json`
(where images and weights are).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..npz import read_npz
from .index_folder import FACTS, FEATURES, NETWORK, TABLE, WEIGHTS, new_folder, recover_folder

FORMAT = 1
"""Counts up when files of an index change their meaning."""
_COLUMNS = ("row", "path", "camera", "identity", "bytes", "modified_ns")

Stamp = tuple[int, int]
"""Size of a file in bytes, and when it was last changed, in ns; 0: not known."""


@dataclass(frozen=True)
class FeatureIndex:
    """Row n of everything is image n.

    Attributes:
        features: (N, D) float32.
        paths: of the images, inside the folder `images`, ascending.
        cameras: names, None where the cameras are not known.
        identities: names, None where an identity is not known.
        images: the folder that was indexed, absolute.
        weights: the file of the network, absolute.
        digest: its `file_digest` when the index was made.
        teacher: which of its mean teachers, from 0, if it has some.
        stamps: of the images when the index was made; empty: they are not known.
    """

    features: np.ndarray
    paths: tuple[str, ...]
    cameras: tuple[str | None, ...]
    identities: tuple[str | None, ...]
    images: str
    weights: str
    digest: str
    teacher: int = 0
    stamps: tuple[Stamp, ...] = ()

    def path_of(self, row: int) -> str:
        """Where image n is."""
        return os.path.join(self.images, self.paths[row])

    def row_of(self, path: str) -> int | None:
        """The row of a file, also of a link to one; None if it is not in the index."""
        for form in (os.path.abspath, os.path.realpath):
            inside = os.path.relpath(form(path), form(self.images))
            if inside in self.paths:
                return self.paths.index(inside)
        return None

    def moved_to(self, images: str) -> FeatureIndex:
        """The same index, of images that are in another folder now; copies have other times."""
        stamps = tuple((size, 0) for size, _ in self.stamps)
        return replace(self, images=os.path.abspath(images), stamps=stamps)

    def gone_and_changed(self, rows: Iterable[int]) -> tuple[list[int], list[int]]:
        """Of some rows those whose file is not there, and those that have another one now."""
        gone, changed = [], []
        for row in rows:
            now = file_stamp(self.path_of(row))
            if now is None:
                gone.append(row)
            elif self.stamps and any(
                then and then != value for then, value in zip(self.stamps[row], now, strict=True)
            ):
                changed.append(row)
        return gone, changed


def file_stamp(path: str) -> Stamp | None:
    """Size and time of a file; None if it is not there."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def file_digest(path: str) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_index(
    folder: str,
    index: FeatureIndex,
    network: str,
    arrays: Mapping[str, np.ndarray],
    copy_weights: Callable[[str], None] | None = None,
) -> None:
    """Write an index, in the place of an earlier one: a folder has all of the files or none.

    Args:
        folder: of the index; passed `check_index_folder`. A link stays, its folder is replaced.
        index: what is written.
        network: the text of `network.yaml`.
        arrays: what `features.npz` has beside the features: `camera_ids`, `identities`.
        copy_weights: writes the weights to a path; None: they stay where they are.

    Raises:
        UserError: the disk is full, or the folder cannot be written, or holds other things now.
    """
    try:
        with new_folder(folder) as new:
            name = WEIGHTS if copy_weights else ""
            if copy_weights:
                copy_weights(str(new / name))
            np.savez_compressed(new / FEATURES, **{"global": index.features, **arrays})  # type: ignore[arg-type]
            _write_table(new / TABLE, index)
            (new / NETWORK).write_text(network, encoding="utf-8", errors="surrogateescape")
            facts = {
                "format": FORMAT,
                "images": index.images,
                "count": len(index.paths),
                "weights": name or index.weights,
                "weights_sha256": file_digest(str(new / name)) if name else index.digest,
                "teacher": 0 if name else index.teacher,
            }
            (new / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}).") from error


def read_index(folder: str) -> FeatureIndex:
    """An index that `write_index` has written, with its name back if a kill has left it without.

    Raises:
        UserError: it is none, one of another version, or a file of it is missing or damaged.
    """
    recover_folder(folder)
    path = os.path.join(folder, FACTS)
    if not os.path.isfile(path):
        raise UserError(f"{folder} is no index: it has no {FACTS}; make one with extract.")
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise UserError(f"{folder} is an index of another version; make it anew with extract.")
        features = read_npz(os.path.join(folder, FEATURES), ["global"])["global"]
        rows = list(_read_table(os.path.join(folder, TABLE)))
        index = FeatureIndex(
            features=features,
            paths=tuple(row["path"] for row in rows),
            cameras=tuple(row["camera"] or None for row in rows),
            identities=tuple(row["identity"] or None for row in rows),
            images=facts["images"],
            weights=os.path.join(os.path.abspath(folder), facts["weights"]),
            digest=facts["weights_sha256"],
            teacher=facts["teacher"],
            stamps=tuple(_stamp_of(row) for row in rows),
        )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder} is a damaged index ({error}); make it anew.") from error
    if features.ndim != 2 or len(features) != len(index.paths) or not len(features):
        raise UserError(
            f"{folder} is a damaged index: {FEATURES} is of shape {features.shape}, {TABLE} has "
            f"{len(index.paths)} rows; make it anew with extract."
        )
    return index


def check_weights(folder: str, index: FeatureIndex) -> None:
    """Refuse to embed images by other weights than those of the index.

    Raises:
        UserError: the file is gone, or has changed.
    """
    if not os.path.isfile(index.weights):
        raise UserError(
            f"The network of the index {folder} was {index.weights}, which is not there any more; "
            "put it back, or make the index anew with extract (--copy-weights keeps a copy)."
        )
    if file_digest(index.weights) != index.digest:
        raise UserError(
            f"{index.weights} has changed since the index {folder} was made of its features; "
            "make the index anew with extract (--copy-weights keeps a copy of the network)."
        )


def _write_table(path: Path, index: FeatureIndex) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        stamps = index.stamps or ((0, 0),) * len(index.paths)
        columns = (index.paths, index.cameras, index.identities, *zip(*stamps, strict=True))
        for n, row in enumerate(zip(*columns, strict=True)):
            writer.writerow([n, *(value or "" for value in row)])


def _stamp_of(row: Mapping[str, Any]) -> Stamp:
    return int(row.get("bytes") or 0), int(row.get("modified_ns") or 0)


def _read_table(path: str) -> Iterator[dict[str, Any]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield from csv.DictReader(file)
