"""One fixed order of images, from which every array and every label takes its positions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageList:
    """N images sorted by path; row n of every array of a run is image n of this list.

    Attributes:
        paths: N file names, ascending.
        camera_ids: (N,) int64 in 0..cameras-1, or None where the cameras are unknown.
        identities: (N,) int64 in 0..identities-1, or None where they are unknown. Never used to
            adapt, only to report scores and to train on labelled data.
    """

    paths: tuple[str, ...]
    camera_ids: np.ndarray | None
    identities: np.ndarray | None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """A hash of the paths: two lists with the same digest have the same order."""
        return hashlib.sha256("\n".join(self.paths).encode("utf-8", "surrogateescape")).hexdigest()[
            :16
        ]


def make_image_list(items: Sequence[tuple[str, Hashable, Hashable]], name: str) -> ImageList:
    """Sort the items of a fast-reid data set and number its cameras and identities from 0.

    fast-reid lists files in the order of the file system, which differs between machines, and
    names identities and cameras of training sets by strings.

    Args:
        items: (path, identity, camera) of each image; None for an unknown identity or camera.
        name: of the data set, for messages.

    A path that is listed more than once stays so: every entry is an image with a row, a label and
    a camera of its own, in the order of the list.

    Raises:
        UserError: there are no images, or some have a camera and others none.
    """
    if not items:
        raise UserError(f"Data set {name} has no training images; check its folder.")
    items = sorted(items, key=lambda item: item[0])
    paths = tuple(item[0] for item in items)
    repeated = len(paths) - len(set(paths))
    if repeated:
        twice = next(path for path, after in pairwise(paths) if path == after)
        logger.warning(
            "Data set %s lists %d image(s) more than once, e.g. %s; each entry counts as an image "
            "of its own.", name, repeated, twice,
        )  # fmt: skip
    _check_cameras(items, name)
    identities, cameras = (_number([item[i] for item in items]) for i in (1, 2))
    if identities is None and any(item[1] is not None for item in items):
        known = sum(item[1] is not None for item in items)
        logger.warning(
            "Data set %s: %d of %d images have an identity; none of them is used.",
            name, known, len(items),
        )  # fmt: skip
    return ImageList(paths, camera_ids=cameras, identities=identities)


def _check_cameras(items: list[tuple[str, Hashable, Hashable]], name: str) -> None:
    """Refuse cameras for a part of the images, which would be as good as none."""
    without = [path for path, _, camera in items if camera is None]
    if 0 < len(without) < len(items):
        raise UserError(
            f"Data set {name}: {len(without)} of {len(items)} images have no camera, e.g. "
            f"{without[0]}; give every image a camera, or none."
        )


def _number(values: list[Hashable]) -> np.ndarray | None:
    """(N,) int64 positions of the values among the sorted different ones; None if any is None."""
    if any(value is None for value in values):
        return None
    return np.unique(np.array([str(value) for value in values]), return_inverse=True)[1].astype(
        np.int64
    )
