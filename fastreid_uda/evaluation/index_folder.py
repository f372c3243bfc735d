"""The folder of an index: whole or not there, and nothing is deleted that is not of an index."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError
from ..files import remove_leftovers
from ..folders import is_being_written, temporary_folder, temporary_folders
from ..output_files import obstacle_above

FEATURES, TABLE, NETWORK, FACTS = "features.npz", "index.csv", "network.yaml", "index.json"
WEIGHTS = "weights.pth"
"""The copy of the network, in an index that has one."""
FACT_KEYS = ("format", "images", "count", "weights", "weights_sha256", "teacher")
_FILES = (FACTS, FEATURES, TABLE, NETWORK, WEIGHTS)
_OLD = ".old"


def check_index_folder(option: str, folder: str) -> None:
    """Refuse a folder that could not be made, or that holds something else than an index.

    Raises:
        UserError: naming the option and the folder, and what else is in it.
    """
    if not folder:
        raise UserError(f"{option} is empty; name a folder.")
    path = os.path.realpath(folder)
    if os.path.exists(path):
        if not os.path.isdir(path):
            raise UserError(f"{option} is {folder}, which is a file; name a folder.")
        if other := _what_else(path):
            raise UserError(
                f"{option} is {folder}, which holds other things than an index ({other}); name a "
                "new folder."
            )
    above, reason = obstacle_above(path)
    if reason:
        raise UserError(f"{option} is {folder}, but {above} is not writable; name another folder.")


def _what_else(path: str) -> str:
    """What in a folder is not of an index; empty if there is nothing."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return error.strerror or "unreadable"
    for name in names:
        if name not in _FILES or not os.path.isfile(os.path.join(path, name)):
            return name
    if names and FACTS not in names:
        return f"{names[0]} without {FACTS}"
    return f"an {FACTS} of something else" if names and not _has_facts(path) else ""


def _has_facts(path: str) -> bool:
    try:
        facts = json.loads(Path(path, FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and all(key in facts for key in FACT_KEYS)


@contextmanager
def new_folder(folder: str) -> Iterator[Path]:
    """A folder beside another that takes its place if the block ends well; links are followed.

    What killed processes have left beside it is put back or removed first.

    Raises:
        UserError: the folder has come to hold other things than an index.
    """
    path = os.path.realpath(folder)
    recover_folder(path)
    for old in temporary_folders(path, _OLD):
        if not is_being_written(old.removesuffix(_OLD)):
            _remove(old)
    with temporary_folder(path, _remove) as new:
        yield Path(new)
        os.chmod(new, 0o755)
        _put_in_place(new, path)


def _put_in_place(new: str, path: str) -> None:
    if os.path.exists(path) and (other := _what_else(path)):
        raise UserError(f"{path} has come to hold other things than an index ({other}).")
    old = new + _OLD
    try:
        if os.path.exists(path):
            os.rename(path, old)
        os.rename(new, path)
    except BaseException:
        if os.path.exists(old) and not os.path.exists(path):
            os.rename(old, path)
        raise
    _remove(old)


def recover_folder(folder: str) -> None:
    """Give an index its name back that a process has left without, killed between two renames."""
    path = os.path.realpath(folder)
    if os.path.lexists(path):
        return
    for new in temporary_folders(path):
        # Without the new folder beside it, an old one was replaced, and is to be removed.
        if os.path.isdir(new + _OLD) and not is_being_written(new):
            with suppress(OSError):  # no right to; then the index is not there
                os.rename(new + _OLD, path)
            return


def _remove(folder: str) -> None:
    """Delete the files of an index, and the folder if nothing else is in it."""
    with suppress(OSError):
        remove_leftovers(folder)  # of a copy of weights that was being written
    for name in _FILES:
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))
    with suppress(OSError):
        os.rmdir(folder)
