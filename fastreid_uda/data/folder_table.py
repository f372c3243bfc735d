"""The CSV of PersonFolder: path, camera, identity of each image."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence

from ..errors import UserError

KEY = "DATASETS.FOLDER.CSV"


class FolderTable:
    """Camera and identity by path.

    A path is absolute, or begins in the folder of the CSV, or begins in the folder of the images.

    Args:
        path: of the CSV, with the columns path and at least one of camera and identity.

    Raises:
        UserError: the file is no such table, or has two rows for a path.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows = _read(path)
        self._image_of_row: dict[str, str] = {}

    def facts(self, folder: str, name: str) -> tuple[str | None, str | None]:
        """Identity and camera of one image, None if unknown.

        Args:
            folder: of the images.
            name: the image's path inside the folder.

        Raises:
            UserError: it has no row, or its row stands for an image of another folder too.
        """
        file = os.path.abspath(os.path.join(folder, name))
        here = os.path.dirname(os.path.abspath(self._path))
        inside = os.path.normpath(name)
        for key in (file, os.path.relpath(file, here), inside):
            if key in self._rows:
                break
        else:
            raise UserError(
                f"{os.path.join(folder, name)} has no row in {KEY}; add one with the path {name}, "
                "or move the image away."
            )
        first = self._image_of_row.setdefault(key, file)
        if os.path.realpath(first) != os.path.realpath(file):
            raise UserError(
                f"{self._path}: the path {key} stands for {first} and for {file}; write such paths "
                f"from the folder of the table on, as {os.path.relpath(file, here)}."
            )
        return self._rows[key]


def _read(path: str) -> dict[str, tuple[str | None, str | None]]:
    """Path -> identity and camera."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(path, [name.strip() for name in reader.fieldnames or []])
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            rows: dict[str, tuple[str | None, str | None]] = {}
            for row in reader:
                key = os.path.normpath(row["path"] or "")
                if key in rows:
                    raise UserError(
                        f"{path}, line {reader.line_num}: the path {row['path']!r} is there "
                        "twice; keep one of its rows."
                    )
                rows[key] = (_word(row.get("identity")), _word(row.get("camera")))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{KEY} is {path!r}, which cannot be read as a table in UTF-8 ({error})."
        ) from error


def _check_columns(path: str, columns: Sequence[str]) -> None:
    if "path" in columns and {"camera", "identity"} & set(columns):
        if len(set(columns)) < len(columns):
            raise UserError(f"{path} has a column twice ({', '.join(columns)}); keep one of them.")
        return
    signs = {";": "semicolons", "\t": "tabs"}
    sign = next((sign for sign in signs if any(sign in column for column in columns)), None)
    if sign:
        raise UserError(
            f"{path} has its columns separated by {signs[sign]}; save it separated by commas."
        )
    raise UserError(
        f"{path} has the columns {', '.join(columns) or 'none'}, but it needs path and at least "
        "one of camera and identity; name them so in the first line."
    )


def _word(value: str | None) -> str | None:
    """A camera or an identity is a name; blanks around it do not belong to it."""
    return (value or "").strip() or None
