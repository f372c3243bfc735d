"""A sample of the clustered features in few dimensions, small enough to keep of every round."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from sklearn.decomposition import PCA

DIMENSIONS = 50
"""As t-SNE is usually given them."""


@dataclass(frozen=True)
class FeatureMap:
    """The features of M of the images.

    Attributes:
        rows: (M,) int64, ascending: the images.
        features: (M, P) float16 in [-1, 1], P <= `DIMENSIONS`: their principal components, in
            units of the largest absolute value.
        variance: the share of the variance of the sample that they keep, in [0, 1].
    """

    rows: np.ndarray
    features: np.ndarray
    variance: float

    def expand(self, rows: np.ndarray) -> FeatureMap:
        """That of a subset as one of all images, which are selected by a mask (N,)."""
        return replace(self, rows=np.flatnonzero(rows)[self.rows])


def map_features(features: np.ndarray, most: int, seed: int) -> FeatureMap | None:
    """The principal components of a sample of the images.

    The sample depends on N, `most` and `seed` alone, so that all rounds of a run have the same.

    Args:
        features: (N, D) float32, finite.
        most: images of the sample; 0: there is no map.
        seed: of the sample and of the randomized decomposition.
    """
    if not most:
        return None
    number = min(most, len(features))
    rows = np.sort(np.random.default_rng(seed).choice(len(features), number, replace=False))
    sample = _in_unit_range(features[rows])
    dimensions = min(DIMENSIONS, *sample.shape)
    if not np.ptp(sample, axis=0).any():  # identical rows have no components
        return FeatureMap(rows, np.zeros((number, dimensions), np.float16), 1.0)
    pca = PCA(dimensions, svd_solver="randomized", iterated_power=2, random_state=seed)
    components = _in_unit_range(pca.fit_transform(sample)).astype(np.float16)
    return FeatureMap(rows, components, min(1.0, float(pca.explained_variance_ratio_.sum())))


def _in_unit_range(values: np.ndarray) -> np.ndarray:
    """Divided by the largest absolute value, if it is above 0."""
    largest = np.abs(values).max()
    return values / largest if largest else values
