"""OUTPUT_DIR/labels: the labels of each round and the list of images."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from ..files import atomic_write

logger = logging.getLogger(__name__)

IMAGES = "images.txt"


def label_file(output_dir: str, number: int) -> str:
    """The path of the labels of a round, counted from 0."""
    return os.path.join(output_dir, "labels", f"round_{number:03d}.npz")


def write_image_list(output_dir: str, paths: Sequence[str]) -> None:
    """One line per image, in the order of the labels."""
    with atomic_write(os.path.join(output_dir, "labels", IMAGES)) as file:
        file.write(("\n".join(paths) + "\n").encode("utf-8", "surrogateescape"))


def check_label_folder(
    output_dir: str, records: Sequence[dict[str, Any]], paths: Sequence[str]
) -> None:
    """Warn of the label files that a resumed run has lost, and write a lost list of images.

    Args:
        output_dir: of the run.
        records: of the rounds whose labels have been made; those of true labels, and of rounds that
            used the labels of the round before, have no file.
        paths: of the images.
    """
    files = [
        label_file(output_dir, record["round"])
        for record in records
        if "clusters" in record and "collapsed" not in record
    ]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        logger.warning(
            "%d of %d label files of the rounds so far are missing, from %s on; the run goes on "
            "without them, and they are not made again.", len(missing), len(files), missing[0],
        )  # fmt: skip
    if files and not os.path.isfile(os.path.join(output_dir, "labels", IMAGES)):
        write_image_list(output_dir, paths)
