"""The records that flow through the labeling stages. Arrays in them are read, never written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import UserError

OUTLIER = -1
"""The label of an image that is left out of training; the only sign for it, everywhere."""

RESERVED = frozenset(
    ("camera_ids", "identities", "clusters", "consistency", "uncertainty", "weight", "silhouette",
     "noise", "pair_precision", "pair_recall")
)  # fmt: skip
"""No names of views: other arrays of a feature file, and first words of a report's entries."""


@dataclass(frozen=True)
class FeatureSet:
    """The features of one list of images; row n of every array is image n of that list.

    Attributes:
        views: name -> (N, D) float32. `"global"` for a single-branch network; a network with
            branches adds one view per branch. D may differ between views.
        camera_ids: (N,) int64, or None where the cameras are unknown.
        extras: name -> (N, D) float32. What a refiner may ask for beside the views, e.g.
            `"student/global"`; never clustered, never normalised by the pipeline.
    """

    views: Mapping[str, np.ndarray]
    camera_ids: np.ndarray | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.views:
            raise UserError("A feature set needs at least one view, e.g. 'global'.")
        for name in RESERVED.intersection(self.views):
            raise UserError(
                f"A view is named '{name}', which means something else in files and reports of "
                "features; rename it."
            )
        for name, features in {**self.views, **self.extras}.items():
            if features.ndim != 2 or features.dtype.kind != "f":
                raise UserError(
                    f"'{name}' is {features.dtype} of shape {features.shape}, but features "
                    "are float arrays of shape (images, dimensions)."
                )
            if len(features) != self.num_images:
                raise UserError(
                    f"'{name}' has {len(features)} rows but the first view has "
                    f"{self.num_images}; every image needs one row."
                )
        if self.camera_ids is not None and self.camera_ids.shape != (self.num_images,):
            raise UserError(
                f"There are {self.num_images} feature rows but camera_ids has shape "
                f"{self.camera_ids.shape}; every image needs one camera id."
            )

    @property
    def num_images(self) -> int:
        """N."""
        return len(next(iter(self.views.values())))

    def map_views(self, function: Callable[[np.ndarray], np.ndarray]) -> FeatureSet:
        """The same images with a function applied to each view; extras stay as they are."""
        return replace(self, views={name: function(x) for name, x in self.views.items()})

    def subset(self, rows: np.ndarray) -> FeatureSet:
        """The images selected by a boolean mask (N,)."""
        return FeatureSet(
            {name: x[rows] for name, x in self.views.items()},
            None if self.camera_ids is None else self.camera_ids[rows],
            {name: x[rows] for name, x in self.extras.items()},
        )


@dataclass(frozen=True)
class PseudoLabels:
    """One label per image, and the classes that the labels stand for.

    Class k is row k of `centroids` and row k of the classifier. A class may be without images.

    Attributes:
        labels: (N,) int64 in {OUTLIER} and [0, K).
        centroids: (K, D) float32, unit rows: the L2-normalised mean feature of each class.
        weights: (N,) float32 in [0, 1], the trust in each label; 0 for outliers.
        uncertainty: (N,) float32, how doubtful each label is by the criterion of the last refiner
            that has one, NaN where it was not measured; None if no refiner measured any. An image
            keeps it when it becomes an outlier.
    """

    labels: np.ndarray
    centroids: np.ndarray
    weights: np.ndarray
    uncertainty: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.labels.dtype != np.int64 or self.labels.ndim != 1:
            raise TypeError(f"labels must be (N,) int64, got {self.labels.dtype}.")
        if self.weights.shape != self.labels.shape:
            raise ValueError(f"{len(self.labels)} labels but {len(self.weights)} weights.")
        if self.uncertainty is not None and self.uncertainty.shape != self.labels.shape:
            raise ValueError(
                f"{len(self.labels)} labels but {len(self.uncertainty)} uncertainties."
            )
        if len(self.labels) and not (
            self.labels.min() >= OUTLIER and self.labels.max() < self.num_classes
        ):
            raise ValueError(
                f"Labels span {self.labels.min()}..{self.labels.max()}, but with "
                f"{self.num_classes} centroids they must lie in -1..{self.num_classes - 1}."
            )

    @property
    def num_classes(self) -> int:
        """K, the number of classifier rows."""
        return len(self.centroids)

    @property
    def kept(self) -> np.ndarray:
        """(N,) bool, True where the image takes part in training."""
        return self.labels != OUTLIER

    def drop(self, dropped: np.ndarray) -> PseudoLabels:
        """The same classes without some images.

        Args:
            dropped: (N,) bool, True where the image becomes an outlier.
        """
        labels = np.where(dropped, OUTLIER, self.labels)
        return replace(self, labels=labels, weights=np.where(dropped, 0, self.weights))

    def expand(self, rows: np.ndarray) -> PseudoLabels:
        """The labels of a subset as those of all images; the others are outliers.

        Args:
            rows: (M,) bool, M >= N, True for the N images of the subset.
        """

        def spread(values: np.ndarray, elsewhere: float) -> np.ndarray:
            everywhere = np.full(len(rows), elsewhere, dtype=values.dtype)
            everywhere[rows] = values
            return everywhere

        uncertainty = self.uncertainty
        return replace(
            self,
            labels=spread(self.labels, OUTLIER),
            weights=spread(self.weights, 0),
            uncertainty=None if uncertainty is None else spread(uncertainty, np.nan),
        )

    def weigh(self, uncertainty: np.ndarray) -> PseudoLabels:
        """The same labels, each with its weight times exp(-uncertainty): UNRN's credibility.

        Args:
            uncertainty: (N,) float32, 0 or more, kept with the labels; where it is NaN the weight
                stays.
        """
        credibility = np.where(np.isnan(uncertainty), 1, np.exp(-uncertainty))
        weights = (self.weights * credibility).astype(np.float32)
        return replace(self, weights=weights, uncertainty=uncertainty)


def make_pseudo_labels(labels: np.ndarray, features: np.ndarray) -> PseudoLabels:
    """Pseudo labels of full weight, with the mean features of their classes.

    Args:
        labels: (N,) integers in {OUTLIER} and [0, K).
        features: (N, D) float32, unit rows.
    """
    labels = np.asarray(labels, dtype=np.int64)
    num_classes = int(labels.max(initial=OUTLIER)) + 1
    return PseudoLabels(
        labels=labels,
        centroids=class_centroids(features, labels, num_classes),
        weights=(labels != OUTLIER).astype(np.float32),
    )


def kept_in_all(labels: Mapping[str, PseudoLabels]) -> np.ndarray:
    """(N,) bool: the images that have a label in every view, i.e. the training set."""
    return np.logical_and.reduce([part.kept for part in labels.values()])


def weights_in_all(labels: Mapping[str, PseudoLabels]) -> np.ndarray:
    """(N,) float32: the trust in each image, the smallest of its weights in the views."""
    return np.minimum.reduce([part.weights for part in labels.values()])


def class_centroids(features: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, D) float32: the L2-normalised mean of each class; zero rows for classes without images.

    Args:
        features: (N, D).
        labels: (N,) int64; outliers take no part.
        num_classes: K.
    """
    sums = _class_sums(features, labels, num_classes)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(norms > 0, norms, 1)).astype(np.float32)


def class_means(features: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, D) float32: the mean of each class as it is; zero rows for classes without images.

    Args:
        features: (N, D).
        labels: (N,) int64; outliers take no part.
        num_classes: K.
    """
    counts = np.bincount(labels[labels != OUTLIER], minlength=num_classes)[:, None]
    sums = _class_sums(features, labels, num_classes)
    return (sums / np.maximum(counts, 1)).astype(np.float32)


def _class_sums(features: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, D) float64: the sum of the features of each class."""
    kept = np.flatnonzero(labels != OUTLIER)
    # One sparse product sums all classes in float64, in image order: the same bits on every run.
    membership = csr_matrix(
        (np.ones(len(kept)), (labels[kept], kept)), shape=(num_classes, len(labels))
    )
    return membership @ features.astype(np.float64)


def renumber(labels: np.ndarray, by_appearance: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Close the gaps in a numbering.

    The only place where labels change their numbers.

    Args:
        labels: (N,) int64 with OUTLIER for images left out.
        by_appearance: True: class k' is the k'-th to appear along the image list; False: the
            classes keep their order.

    Returns:
        The labels in 0..K'-1 and the old number of each new class, (K',) int64.
    """
    old, first, inverse = np.unique(
        labels[labels != OUTLIER], return_index=True, return_inverse=True
    )
    if by_appearance:
        order = np.argsort(first)
        old, inverse = old[order], np.argsort(order)[inverse]
    renumbered = np.full_like(labels, OUTLIER)
    renumbered[labels != OUTLIER] = inverse
    return renumbered, old
