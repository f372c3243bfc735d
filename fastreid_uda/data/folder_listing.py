"""The images below a folder, through links too, each folder once."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from typing import NoReturn

from ..errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

logger = logging.getLogger(__name__)


def list_images(folder: str, key: str) -> list[str]:
    """The paths, inside the folder, of the images below it, ascending.

    Args:
        folder: searched through its subfolders and the folders that links point to.
        key: the config key that names it.

    Raises:
        UserError: there is no such folder, no image in it, or a part that cannot be read.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{key} is {folder!r}, which is not a folder.")
    names: list[str] = []
    others: list[str] = []
    for path in _files_below(folder):
        name = os.path.relpath(path, folder)
        (names if name.lower().endswith(SUFFIXES) else others).append(name)
    ignored = _describe_suffixes(others)
    if not names:
        found = f" but {ignored}" if others else ""
        raise UserError(
            f"{key} is {folder!r}, which holds no images ({', '.join(SUFFIXES)}){found}; put "
            "images there or name another folder."
        )
    if others:
        logger.warning("%s: %d images; ignored %s.", folder, len(names), ignored)
    for name in names:
        if len(name.splitlines()) > 1:
            raise UserError(
                f"{key}: the name of the image {name!r} has a line break; rename the image."
            )
    _say_repeated(folder, names)
    return sorted(names)


def _files_below(folder: str) -> Iterator[str]:
    """All files; a folder that several links lead to is read once, so a loop of links ends."""
    seen: dict[str, str] = {}
    to_read = [folder]
    while to_read:  # links last: where a folder lies inside the tree, it has its own name
        for parent, folders, files in os.walk(to_read.pop(0), onerror=_cannot_read):
            real = os.path.realpath(parent)
            if real in seen:
                logger.warning("%s is %s, which has been read; it is left out.", parent, seen[real])
                folders.clear()
                continue
            seen[real] = parent
            folders.sort()
            inner = (os.path.join(parent, name) for name in folders)
            to_read += [path for path in inner if os.path.islink(path)]
            yield from (os.path.join(parent, name) for name in files)


def _cannot_read(error: OSError) -> NoReturn:
    raise UserError(
        f"The folder {error.filename} cannot be read ({error.strerror}); its images would be "
        "missing. Make it readable, or move it away."
    ) from error


def _describe_suffixes(names: list[str]) -> str:
    """'3 other files (.txt, .json)', the most frequent first."""
    suffixes = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in sorted(names))
    kinds = ", ".join(suffix for suffix, _ in suffixes.most_common(5))
    return f"{len(names)} other file(s) ({kinds})"


def _say_repeated(folder: str, names: list[str]) -> None:
    """Warn of images that are links to other images of the list."""
    paths = [os.path.join(folder, name) for name in names]
    links = {os.path.realpath(path): path for path in paths if os.path.islink(path)}
    if not links:
        return
    count = len(paths) - len({os.path.realpath(path) for path in paths})
    if count:
        logger.warning(
            "%s: %d image(s) are links to others of the same list, e.g. %s; each counts as an "
            "image of its own.", folder, count, next(iter(links.values())),
        )  # fmt: skip
