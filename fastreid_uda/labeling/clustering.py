"""Clusters of one view."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from ..errors import UserError
from ..registry import Registry
from .dbscan import dbscan
from .eps import check_eps
from .hdbscan import sparse_hdbscan
from .kmeans import kmeans_memory, sklearn_kmeans
from .pairwise import PairwiseDistances
from .types import renumber

_logger = logging.getLogger(__name__)

CLUSTERERS = Registry("UDA.CLUSTER.NAME")
"""Classes with the attribute and the method of `Clusterer`."""


class Clusterer(Protocol):
    """What the pipeline asks of a clusterer.

    Attributes:
        uses_distances: whether `cluster` reads `distances`; None may be passed if not.
        uses_eps: whether it reads `eps`, likewise.
    """

    uses_distances: ClassVar[bool]
    uses_eps: ClassVar[bool]

    def cluster(
        self,
        features: np.ndarray,
        distances: PairwiseDistances | None,
        eps: float | None,
        seed: int,
    ) -> np.ndarray:
        """Labels (N,) int64 in 0..K-1, or OUTLIER, of (N, D) float32 features of one view.

        Args:
            features: (N, D) float32.
            distances: between the same images.
            eps: the radius within which images are neighbours.
            seed: of the random choices, if there are any.
        """


@runtime_checkable
class ChecksDistances(Protocol):
    """A clusterer or an eps rule whose keys, or itself, do not fit every distance."""

    def check_distances(self, fill: float) -> None:
        """Raise a `UserError` unless it works with a distance; called before a run starts.

        Args:
            fill: see `PairwiseDistances`.
        """


@CLUSTERERS.register
@dataclass(frozen=True)
class DBSCAN:
    """Density-based clusters of any number, the rest are outliers.

    A cluster may have fewer than `min_samples` images: a border image within reach of two clusters
    goes to the one with the lower number. See `dbscan.py`.

    Reference: Ester et al., KDD 1996.
    """

    uses_distances: ClassVar[bool] = True
    uses_eps: ClassVar[bool] = True
    within_eps: ClassVar[bool] = True  # it reads no distance beyond eps
    memory_advice: ClassVar[str] = "lower UDA.CLUSTER.EPS, at which images have fewer neighbours"

    min_samples: int = 4  # images within eps that make an image a core image, itself included

    def __post_init__(self) -> None:
        if self.min_samples < 1:
            raise UserError(
                f"UDA.CLUSTER.DBSCAN.MIN_SAMPLES is {self.min_samples}, but it must be at least 1."
            )

    def cluster(
        self,
        features: np.ndarray,
        distances: PairwiseDistances | None,
        eps: float | None,
        seed: int,
    ) -> np.ndarray:
        """As `Clusterer.cluster`; numbered by the first core image, as scikit-learn does.

        Raises:
            UserError: an eps that is not positive and finite.
        """
        if distances is None or eps is None:
            raise ValueError("DBSCAN needs distances and eps.")
        eps = check_eps(float(eps))
        return dbscan(distances.within(eps), eps, self.min_samples)

    def memory_needed(self, num_images: int, dimension: int) -> int:
        """Bytes that `cluster` takes above the distances where images have 32 neighbours."""
        neighbors = 8 + 1  # row number, int32, distance, float32, and whether it is near
        return num_images * (32 * neighbors + 4 * 8)  # pointers, their copy, trees, labels


@CLUSTERERS.register
@dataclass(frozen=True)
class HDBSCAN:
    """Density-based clusters, each at the density at which it holds together longest; no radius.

    See `hdbscan.py`. Reference: Campello, Moulavi and Sander, PAKDD 2013.
    """

    uses_distances: ClassVar[bool] = True
    uses_eps: ClassVar[bool] = False

    min_cluster_size: int = 4  # images of a cluster, at least 2
    # an image is a dense place as far as its nearest images reach, this many with itself
    min_samples: int = 4
    # clusters of the hierarchy: the most persistent (`eom`) or the finest (`leaf`)
    cluster_selection: str = "eom"
    # pairs count as no farther than this and only nearer ones take memory; images that hold
    # together only there are outliers. 0.0: as far as the distance stores pairs (Jaccard: 1);
    # `Cosine` and `Euclidean` store them all and need a value
    max_distance: float = 0.0

    def __post_init__(self) -> None:
        for key, value, smallest in (
            ("MIN_CLUSTER_SIZE", self.min_cluster_size, 2),
            ("MIN_SAMPLES", self.min_samples, 1),
            ("MAX_DISTANCE", self.max_distance, 0),
        ):
            if not smallest <= value < math.inf:
                raise UserError(
                    f"UDA.CLUSTER.HDBSCAN.{key} is {value}, but it must be at least {smallest} and "
                    "finite."
                )
        if self.cluster_selection not in ("eom", "leaf"):
            raise UserError(
                f"UDA.CLUSTER.HDBSCAN.CLUSTER_SELECTION is {self.cluster_selection!r}, but the "
                "known names are: eom, leaf."
            )

    def check_distances(self, fill: float) -> None:
        """Raise a `UserError` unless there is a largest distance."""
        self._limit(fill)

    def _limit(self, fill: float) -> float:
        """The distance of pairs that are not looked at, a float32."""
        if not self.max_distance and math.isnan(fill):
            raise UserError(
                "UDA.CLUSTER.HDBSCAN.MAX_DISTANCE is 0, but with this UDA.DISTANCE.NAME all pairs "
                "of images are at distances of their own, too many to keep; set it to the distance "
                "from which on images do not belong together, or measure Jaccard distances."
            )
        limit = min(self.max_distance or fill, math.inf if math.isnan(fill) else fill)
        return float(np.float32(limit))

    def cluster(
        self,
        features: np.ndarray,
        distances: PairwiseDistances | None,
        eps: float | None,
        seed: int,
    ) -> np.ndarray:
        """As `Clusterer.cluster`; numbered as they appear along the images.

        Raises:
            UserError: fewer images than a cluster or a core needs, or no largest distance.
        """
        if distances is None:
            raise ValueError("HDBSCAN needs distances.")
        for key, value in (
            ("MIN_CLUSTER_SIZE", self.min_cluster_size),
            ("MIN_SAMPLES", self.min_samples),
        ):
            if value > distances.num_rows:
                raise UserError(
                    f"UDA.CLUSTER.HDBSCAN.{key} is {value}, but there are only "
                    f"{distances.num_rows} target images; lower it."
                )
        limit = self._limit(distances.fill)
        raw = sparse_hdbscan(
            distances.below(limit),
            limit,
            min_cluster_size=self.min_cluster_size,
            min_samples=self.min_samples,
            selection=self.cluster_selection,
        )
        return renumber(raw, by_appearance=True)[0]


@CLUSTERERS.register
@dataclass(frozen=True)
class KMeans:
    """A given number of clusters, every image in one of them.

    Runs start from k-means++ seeds with every back end. Every default that scikit-learn changes
    between versions is explicit.

    Reference: Arthur and Vassilvitskii, "k-means++", SODA 2007.
    """

    uses_distances: ClassVar[bool] = False
    uses_eps: ClassVar[bool] = False
    memory_advice: ClassVar[str] = "lower UDA.CLUSTER.KMEANS.N_INIT or NUM_CLUSTERS"

    num_clusters: int = 500  # number of clusters; unused where `IMAGES_PER_CLUSTER` is above 0
    # if above 0: the number of clusters is images / this, rounded down; MSPLR: 15
    images_per_cluster: int = 0
    n_init: int = 10  # runs, of which the one with the smallest inertia counts
    max_iter: int = 300  # iterations of a run
    # `sklearn`, on the CPU; `torch` or `faiss`, which use the GPU if there is one (faiss needs
    # faiss-gpu for that). The seeds are those of k-means++ with all of them
    backend: str = "sklearn"

    def __post_init__(self) -> None:
        for key, value, smallest in (
            ("NUM_CLUSTERS", self.num_clusters, 1),
            ("IMAGES_PER_CLUSTER", self.images_per_cluster, 0),
            ("N_INIT", self.n_init, 1),
            ("MAX_ITER", self.max_iter, 1),
        ):
            if value < smallest:
                raise UserError(
                    f"UDA.CLUSTER.KMEANS.{key} is {value}, but it must be at least {smallest}."
                )
        if self.backend not in ("faiss", "sklearn", "torch"):
            raise UserError(
                f"UDA.CLUSTER.KMEANS.BACKEND is {self.backend!r}, but the known names are: "
                "faiss, sklearn, torch."
            )

    def cluster(
        self,
        features: np.ndarray,
        distances: PairwiseDistances | None,
        eps: float | None,
        seed: int,
    ) -> np.ndarray:
        """As `Clusterer.cluster`; there are no outliers, and every label of 0..K-1 is used.

        Raises:
            UserError: more clusters than images, or a back end that is not installed.
        """
        num_clusters = self._number_of_clusters(len(features))
        kmeans = self._implementation()
        centered = np.subtract(features, features.mean(axis=0), dtype=np.float32)
        raw = kmeans(centered, num_clusters, n_init=self.n_init, max_iter=self.max_iter, seed=seed)
        labels, used = renumber(raw.astype(np.int64))
        if len(used) < num_clusters:
            _logger.warning(
                "k-means has duplicate centroids: only %d of %d clusters have images. Identical "
                "features? Lower UDA.CLUSTER.KMEANS.NUM_CLUSTERS, now %d.",
                len(used),
                num_clusters,
                num_clusters,
            )
        return labels

    def _implementation(self) -> Callable[..., np.ndarray]:
        if self.backend == "sklearn":
            return sklearn_kmeans
        try:
            importlib.import_module(self.backend)
        except ImportError:
            package = {"faiss": "faiss-cpu or faiss-gpu"}.get(self.backend, self.backend)
            raise UserError(
                f"UDA.CLUSTER.KMEANS.BACKEND is {self.backend!r}, which is not installed; install "
                f"{package} or set it to sklearn."
            ) from None
        if self.backend == "torch":
            from .kmeans_torch import torch_kmeans

            return torch_kmeans
        from .kmeans_faiss import faiss_kmeans

        return faiss_kmeans

    def memory_needed(self, num_images: int, dimension: int) -> int:
        """Bytes that `cluster` takes above the features, an upper estimate; on a GPU as many."""
        num_clusters = self.num_clusters
        if self.images_per_cluster:
            num_clusters = num_images // self.images_per_cluster
        centered = 4 * num_images * dimension
        copies = {"sklearn": 1, "torch": 2, "faiss": 1}[self.backend]
        return copies * centered + kmeans_memory(num_images, dimension, num_clusters, self.n_init)

    def _number_of_clusters(self, num_images: int) -> int:
        if not self.images_per_cluster:
            if self.num_clusters > num_images:
                raise UserError(
                    f"UDA.CLUSTER.KMEANS.NUM_CLUSTERS is {self.num_clusters}, but there are only "
                    f"{num_images} target images; lower it."
                )
            return self.num_clusters
        if self.images_per_cluster > num_images:
            raise UserError(
                f"UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER is {self.images_per_cluster}, but there "
                f"are only {num_images} target images; lower it."
            )
        return num_images // self.images_per_cluster
