"""What the stages ask of the camera ids, in one wording."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import UserError


@runtime_checkable
class ChecksCameras(Protocol):
    """A distance, an eps rule, a clusterer or a refiner that looks at the cameras."""

    def check_cameras(self, camera_ids: np.ndarray | None) -> None:
        """Raise a `UserError` unless it can work with them; called before a run starts.

        Args:
            camera_ids: (N,) integers of all images, or None where the cameras are unknown.
        """
        ...


def require_cameras(camera_ids: np.ndarray | None, at_least: int, advice: str) -> np.ndarray:
    """The camera ids, or a `UserError` that says what needs them.

    Args:
        camera_ids: (N,) integers, or None where the cameras are unknown.
        at_least: how many different cameras there have to be; 1: any number.
        advice: who needs them and how to do without, e.g. "UDA.CAMERA_NORMALIZATION needs them; set
            it to False".
    """
    if camera_ids is None:
        raise UserError(f"The target images have no camera ids, but {advice}.")
    number = len(np.unique(camera_ids))
    if number < at_least:
        raise UserError(
            f"The target images are of {number} camera(s), fewer than {at_least}, but {advice}."
        )
    return camera_ids
