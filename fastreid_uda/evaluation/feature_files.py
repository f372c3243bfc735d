"""Reads the saved features of a query or a gallery for `tools/rank_features.py`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..npz import read_npz
from .distances import count_nonfinite_rows

logger = logging.getLogger(__name__)

_LAYOUT = {  # array -> (dtype kinds, dimensions, how to say it)
    "features": ("f", 2, "floats of shape (images, dimensions)"),
    "identities": ("iu", 1, "integers of shape (images,)"),
    "camera_ids": ("iu", 1, "integers of shape (images,)"),
}


@dataclass(frozen=True)
class LabeledFeatures:
    """The images of one side; row n of every array is image n.

    Attributes:
        features: (N, D) float32, finite, N and D at least 1.
        identities: (N,) int64.
        camera_ids: (N,) int64.
    """

    features: np.ndarray
    identities: np.ndarray
    camera_ids: np.ndarray


def read_pair(query: str | Path, gallery: str | Path) -> tuple[LabeledFeatures, LabeledFeatures]:
    """The images of both files, with features of the same dimension.

    Raises:
        UserError: one sentence that names the file, and the array if one is to blame.
    """
    sides = read_labeled_features(query), read_labeled_features(gallery)
    dimensions = [side.features.shape[1] for side in sides]
    if dimensions[0] != dimensions[1]:
        raise UserError(
            f"{query}: 'features' has {dimensions[0]} dimensions but {dimensions[1]} in {gallery}; "
            "extract both with the same model."
        )
    return sides


def read_labeled_features(path: str | Path) -> LabeledFeatures:
    """The arrays `features`, `identities` and `camera_ids` of an .npz file; others are ignored.

    Nothing is unpickled, so a file from a stranger cannot run code. Zero rows are warned of.

    Raises:
        UserError: one sentence that names the file, and the array if one is to blame.
    """
    arrays = _load(path)
    rows = len(arrays["features"])
    for name, values in arrays.items():
        if len(values) != rows:
            raise UserError(
                f"{path}: '{name}' has {len(values)} entries but 'features' has {rows} rows; "
                "every image needs one of each."
            )
    with np.errstate(over="ignore"):  # infinity is found below
        features = arrays["features"].astype(np.float32, copy=False)
    if not features.size:
        raise UserError(f"{path}: 'features' is empty (shape {features.shape}); save some images.")
    if bad := count_nonfinite_rows(features):
        raise UserError(
            f"{path}: {bad} of {rows} rows of 'features' hold NaN or infinity in float32; extract "
            "them again with a model that has not diverged."
        )
    if zero := int((~features.any(axis=1)).sum()):
        logger.warning(
            "%s: %d of %d rows of 'features' are zero: black images, or a dead branch?",
            path, zero, rows,
        )  # fmt: skip
    return LabeledFeatures(
        features=features,
        identities=arrays["identities"].astype(np.int64, copy=False),
        camera_ids=arrays["camera_ids"].astype(np.int64, copy=False),
    )


def _load(path: str | Path) -> dict[str, np.ndarray]:
    arrays = read_npz(path, _LAYOUT)
    for name, values in arrays.items():
        kinds, dimensions, wanted = _LAYOUT[name]
        if values.dtype.kind not in kinds or values.ndim != dimensions:
            raise UserError(
                f"{path}: '{name}' is {values.dtype} of shape {values.shape}, but must be {wanted}."
            )
    return arrays
