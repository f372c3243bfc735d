"""Files that are either whole or not there."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_TEMPORARY = re.compile(r"\..+\.\w{8}\.tmp")
"""Names of the files that `atomic_write` writes to; `tempfile` puts in the eight characters."""


@contextmanager
def atomic_write(path: str, previous: str | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that replaces it when the block ends without an error.

    The bytes are on the disk before the name is: a process that is killed at any moment leaves the
    old file or the new one.

    Args:
        path: of the file.
        previous: what the old file is renamed to before the new one takes its place; None: it is
            replaced. Between the two there is for a moment no `path`, but `previous`.

    Raises:
        OSError: with `path` as its file name if it has none, as when the disk is full.
    """
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    name = os.path.basename(path)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if previous is not None and os.path.exists(path):
            os.replace(path, previous)
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path
        raise


def remove_leftovers(folder: str) -> None:
    """Remove the temporary files that killed processes have left in a folder, if it is there."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if _TEMPORARY.fullmatch(name):
            os.unlink(os.path.join(folder, name))
