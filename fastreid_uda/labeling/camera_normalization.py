"""Take the cameras' own look out of the features, before distances are measured."""

from __future__ import annotations

import numpy as np

_SMALLEST_SIGMA = 1e-6
"""Below it a dimension counts as constant; ReLU-pooled ones can be 0 on all images of a camera."""


def normalize_per_camera(features: np.ndarray, camera_ids: np.ndarray) -> np.ndarray:
    """Shift and scale each camera's features to mean 0 and standard deviation 1 per dimension.

    f' = (f - mu_c) / sigma_c over the images of camera c, with the population sigma. The paper
    does not say what happens where sigma is 0; we divide by 1, so that a camera with a single
    image gives a zero row.

    Reference: Pereira and de Campos, MSPLR, Eq. 4 ("camera-guided feature normalization").

    Args:
        features: (N, D) float32, finite.
        camera_ids: (N,) integers.

    Returns:
        (N, D) float32; rows are not unit vectors any more.
    """
    normalized = np.empty(features.shape, dtype=np.float32)
    for camera in np.unique(camera_ids):
        members = camera_ids == camera
        # float64: a float32 mean over thousands of images would leave an offset of its own.
        own = features[members].astype(np.float64)
        own -= own.mean(axis=0)
        sigma = own.std(axis=0)
        own /= np.where(sigma < _SMALLEST_SIGMA, 1.0, sigma)
        normalized[members] = own
    return normalized


def normalize_rows(features: np.ndarray) -> np.ndarray:
    """Scale each row to Euclidean length 1; a zero row stays zero, never NaN.

    Args:
        features: (N, D) float32, finite.

    Returns:
        (N, D) float32.
    """
    norms = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    norms[norms == 0] = 1.0
    return np.divide(features, norms[:, None], dtype=np.float32, casting="same_kind")
