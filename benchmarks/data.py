"""Synthetic features with the habits of a person data set, shared by the benchmarks.

An identity is a centre; a camera shifts all of its images and its pictures differ among themselves.
Identities have few images or many (Pareto), are seen by some of the cameras more than by others,
and one image in seven is hard: blurred or badly cropped, it lies much further from its centre.
"""

from __future__ import annotations

import numpy as np

IMAGES_PER_IDENTITY = 17  # Market-1501: 12,936 images of 751 people
_HARD = 1 / 7
_BLOCK = 1 << 22  # normal numbers drawn at a time; bounds the memory above the result


def person_features(
    images: int, dim: int, cameras: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of images in random order; the same for the same arguments.

    Args:
        images: N, at least 1; about N / 17 identities.
        dim: D, at least 1. The variance of dimension j falls as 1 / j.
        cameras: C, at least 1.
        seed: of the random numbers.

    Returns:
        (N, D) float32 unit rows, (N,) int64 identities, (N,) int64 camera ids in [0, C).
    """
    rng = np.random.default_rng(seed)
    num_identities = max(1, round(images / IMAGES_PER_IDENTITY))
    identities = _draw(rng, 1 + rng.pareto(2.5, size=num_identities), images)
    camera_ids = _cameras_of(rng, identities, num_identities, cameras)
    spread = np.arange(1, dim + 1, dtype=np.float32) ** np.float32(-0.5)
    centers = rng.standard_normal((num_identities, dim), dtype=np.float32) * spread
    shifts = np.float32(0.3) * rng.standard_normal((cameras, dim), dtype=np.float32) * spread
    noise = rng.lognormal(np.log(1.15), 0.4, size=images)
    noise[rng.random(images) < _HARD] *= 2

    features = np.empty((images, dim), dtype=np.float32)
    rows = max(1, _BLOCK // dim)
    for start in range(0, images, rows):
        block = features[start : start + rows]
        own = slice(start, start + len(block))
        rng.standard_normal(out=block, dtype=np.float32)
        block *= spread
        block *= noise[own, None].astype(np.float32)
        block += centers[identities[own]]
        block += shifts[camera_ids[own]]
        block /= np.sqrt(np.einsum("nd,nd->n", block, block))[:, None]
    return features, identities, camera_ids


def _draw(rng: np.random.Generator, weights: np.ndarray, images: int) -> np.ndarray:
    """(N,) int64: the index of a weight for each image, as likely as it is large."""
    edges = np.cumsum(weights)
    return np.searchsorted(edges[:-1], rng.random(images) * edges[-1], side="right")


def _cameras_of(
    rng: np.random.Generator, identities: np.ndarray, num_identities: int, cameras: int
) -> np.ndarray:
    """(N,) int64 camera ids: half of an identity's images are from its first camera or the next."""
    first = rng.integers(cameras, size=num_identities)
    further = np.minimum(rng.geometric(0.3, size=len(identities)) - 1, cameras - 1)
    return (first[identities] + further) % cameras
