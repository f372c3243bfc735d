"""Whether a file can be written, asked before the work whose result it takes."""

from __future__ import annotations

import os

from .errors import UserError


def check_output(option: str, path: str | None, *inputs: str | None) -> None:
    """Refuse a file that could not be written, or that would replace what is read.

    Args:
        option: of the command line, for messages.
        path: of the file to write, if any; its folder is made when it is written.
        inputs: files that are read; None for those that were not given.

    Raises:
        UserError: naming the option and the file.
    """
    if path is None:
        return
    if not path:
        raise UserError(f"{option} is empty; name a file.")
    if os.path.isdir(path):
        raise UserError(f"{option} is {path}, which is a folder; name a file.")
    if os.path.exists(path) and not os.path.isfile(path):  # e.g. /dev/null, which root can replace
        raise UserError(f"{option} is {path}, which is a device or a pipe; name a file.")
    for name in inputs:
        if name and os.path.exists(path) and os.path.exists(name) and os.path.samefile(path, name):
            raise UserError(f"{option} is {path}, which is read too; name another file.")
    folder, reason = obstacle_above(path)
    if reason:
        raise UserError(f"{option} is {path}, but {folder} {reason}; name a file elsewhere.")


def obstacle_above(path: str) -> tuple[str, str]:
    """The nearest thing above a path that is there, and why nothing can be made in it, or ""."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return folder, "is not a folder"
    return folder, "" if os.access(folder, os.W_OK | os.X_OK) else "is not writable"
