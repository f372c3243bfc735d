"""Temporary folders that take their place when they are whole, and what killed processes leave.

A folder is locked while its process lives, so that the next one can tell what is left of dead ones.
Where folders cannot be locked, as on some network drives and on Windows, what is left stays.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".tmp"


def _remove_all(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_folder(path: str, remove: Callable[[str], None] = _remove_all) -> Iterator[str]:
    """A new folder beside `path`, removed if the block ends with an error.

    Those that killed processes have left for the same `path` are removed first. The block itself
    gives the folder its name.

    Args:
        path: of the folder to be, without links.
        remove: deletes a folder.

    Raises:
        OSError: it cannot be made.
    """
    above, name = os.path.split(path)
    os.makedirs(above, exist_ok=True)
    for left in temporary_folders(path):
        if not is_being_written(left):
            remove(left)
    folder = tempfile.mkdtemp(dir=above, prefix=f".{name}.", suffix=_SUFFIX)
    lock = os.open(folder, os.O_RDONLY)
    try:
        _try_lock(lock)
        yield folder
    except BaseException:
        remove(folder)
        raise
    finally:
        os.close(lock)


def temporary_folders(path: str, suffix: str = "") -> list[str]:
    """The temporary folders of a path that are there, of living processes and of dead ones.

    Args:
        path: as `temporary_folder` was given it.
        suffix: what else their names end with.
    """
    above, name = os.path.split(path)
    pattern = re.compile(rf"\.{re.escape(name)}\.\w{{8}}{re.escape(_SUFFIX + suffix)}")
    names = os.listdir(above) if os.path.isdir(above) else ()
    found = (os.path.join(above, name) for name in names if pattern.fullmatch(name))
    return sorted(folder for folder in found if os.path.isdir(folder))


def is_being_written(folder: str) -> bool:
    """Whether the process that has made a temporary folder lives, or nobody can tell."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _try_lock(lock)
    finally:
        os.close(lock)


def _try_lock(descriptor: int) -> bool:
    """Whether no living process has locked a folder, and this one has now."""
    with suppress(OSError, AttributeError):  # AttributeError: there is no `fcntl`
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
