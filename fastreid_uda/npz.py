"""Reads .npz files of strangers: plain arrays only, nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .errors import UserError


def read_npz(path: str | Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name.

    Args:
        path: of the file.
        names: of the arrays to read, all of which must be there; None: all that are there.

    Raises:
        UserError: one sentence that names the file, and the array if one is to blame.
    """
    if not str(path):
        raise UserError("The name of a feature or label file is empty; give a file.")
    if Path(path).is_dir():
        raise UserError(f"{path}: a folder; give a file written by numpy.savez.")
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give a file written by numpy.savez.")
    try:
        archive = np.load(path, allow_pickle=False)
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read it; change its mode.") from error
    except Exception as error:  # whatever zipfile, zlib and numpy raise on a broken file
        raise UserError(f"{path}: not an .npz file; write it with numpy.savez.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise UserError(f"{path}: a single array, not an .npz file; write it with numpy.savez.")
    with archive:
        wanted = archive.files if names is None else list(names)
        return {name: _read_array(archive, path, name) for name in wanted}


def _read_array(archive: np.lib.npyio.NpzFile, path: str | Path, name: str) -> np.ndarray:
    if name not in archive.files:
        held = ", ".join(map(repr, archive.files)) or "nothing"
        raise UserError(f"{path}: the array '{name}' is missing (there is {held}); add it.")
    if not name.isprintable():
        raise UserError(f"{path}: the array {name!r} has an unprintable name; rename it.")
    try:
        values = archive[name]
    except MemoryError as error:
        raise UserError(
            f"{path}: the array '{name}' does not fit into the memory, or its header is damaged; "
            "save it again, or fewer rows."
        ) from error
    except Exception as error:  # a damaged member, or an object array, which needs pickle
        raise UserError(
            f"{path}: the array '{name}' is damaged or holds Python objects; save it again as a "
            "plain array."
        ) from error
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path}: '{name}' is no numpy array; save it with numpy.savez.")
    return values
