"""PersonFolder: your own crops, with cameras and identities if you know them."""

from __future__ import annotations

import csv
import os
import re
from typing import Any

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from ...errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

Item = tuple[str, "str | int | None", "str | int | None"]


@DATASET_REGISTRY.register()
class PersonFolder(ImageDataset):
    """Folders of person crops, configured by `DATASETS.FOLDER.*`.

    Args:
        train: folder of the images to adapt to, searched through its subfolders.
        query: folder of the query images, or empty.
        gallery: folder of the gallery images, or empty.
        pattern: regular expression searched in the path inside the folder, with the groups
            `camera` and `identity` (either may be missing); empty: neither is known.
        table: name of a CSV file with the columns path, camera, identity; used instead of the
            pattern.
    """

    def __init__(
        self, train: str, query: str = "", gallery: str = "", pattern: str = "", table: str = ""
    ) -> None:
        if not train:
            raise UserError(
                "DATASETS.FOLDER.TRAIN is empty, but the data set PersonFolder needs a folder of "
                "images; set DATASETS.FOLDER.TRAIN."
            )
        if pattern and table:
            raise UserError(
                "DATASETS.FOLDER.PATTERN and DATASETS.FOLDER.CSV are both set; keep one of them."
            )
        rows = _read_table(table) if table else None
        regex = _compile(pattern)
        lists = [_list_images(folder, key, regex, rows) for key, folder in
                 (("TRAIN", train), ("QUERY", query), ("GALLERY", gallery))]  # fmt: skip
        tests = _number_test_items(lists[1], lists[2])
        super().__init__(lists[0], *tests)

    @classmethod
    def from_config(cls, cfg: Any) -> PersonFolder:
        """The data set that `DATASETS.FOLDER.*` describes."""
        node = cfg.DATASETS.FOLDER
        return cls(node.TRAIN, node.QUERY, node.GALLERY, node.PATTERN, node.CSV)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"DATASETS.FOLDER.PATTERN is {pattern!r}, which is no regular expression ({error})."
        ) from error
    unknown = set(regex.groupindex) - {"camera", "identity"}
    if pattern and (unknown or not regex.groupindex):
        raise UserError(
            f"DATASETS.FOLDER.PATTERN is {pattern!r}, but its groups must be named camera and "
            r"identity, e.g. (?P<identity>\d+)_c(?P<camera>\d+)."
        )
    return regex


def _read_table(name: str) -> dict[str, dict[str, str]]:
    try:
        with open(name, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if "path" not in columns or not {"camera", "identity"} & set(columns):
                raise UserError(
                    f"{name} has the columns {', '.join(columns) or 'none'}, but it needs path and "
                    "at least one of camera and identity."
                )
            return {os.path.normpath(row["path"] or ""): row for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"DATASETS.FOLDER.CSV is {name!r}, which cannot be read as a table in UTF-8 ({error})."
        ) from error


def _list_images(
    folder: str, key: str, regex: re.Pattern[str], rows: dict[str, dict[str, str]] | None
) -> list[Item]:
    """(path, identity, camera) of the images below a folder, sorted by path."""
    if not folder:
        return []
    if not os.path.isdir(folder):
        raise UserError(f"DATASETS.FOLDER.{key} is {folder!r}, which is not a folder.")
    names = [
        os.path.relpath(os.path.join(parent, file), folder)
        for parent, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(SUFFIXES)
    ]
    if not names:
        raise UserError(
            f"DATASETS.FOLDER.{key} is {folder!r}, which holds no images ({', '.join(SUFFIXES)})."
        )
    return [(os.path.join(folder, name), *_facts(name, folder, regex, rows)) for name in
            sorted(names)]  # fmt: skip


def _facts(
    name: str, folder: str, regex: re.Pattern[str], rows: dict[str, dict[str, str]] | None
) -> tuple[str | None, str | None]:
    """Identity and camera of one image; None if unknown."""
    if rows is not None:
        row = rows.get(os.path.normpath(name))
        if row is None:
            raise UserError(
                f"{os.path.join(folder, name)} has no row in DATASETS.FOLDER.CSV; add one with the "
                f"path {name}, or move the image away."
            )
        return row.get("identity") or None, row.get("camera") or None
    match = regex.search(name.replace(os.sep, "/"))
    if match is None:
        raise UserError(
            f"{os.path.join(folder, name)} does not match DATASETS.FOLDER.PATTERN "
            f"({regex.pattern}); rename the image, move it away or change the pattern."
        )
    groups = match.groupdict()
    return groups.get("identity"), groups.get("camera")


def _number_test_items(query: list[Item], gallery: list[Item]) -> tuple[list, list]:
    """Test items with integer identities and cameras, numbered over query and gallery together."""
    if not (query and gallery):
        return [], []
    for path, identity, camera in (*query, *gallery):
        if identity is None or camera is None:
            raise UserError(
                f"{path} is a test image without identity or camera id, but scores need both; set "
                "DATASETS.FOLDER.PATTERN, or clear DATASETS.FOLDER.QUERY and GALLERY."
            )
    identities, cameras = (
        {value: n for n, value in enumerate(sorted({str(item[i]) for item in (*query, *gallery)}))}
        for i in (1, 2)
    )

    def numbered(items: list[Item]) -> list[tuple[str, int, int]]:
        return [(path, identities[str(i)], cameras[str(c)]) for path, i, c in items]

    return numbered(query), numbered(gallery)
