"""The distances that a config can name: features of a view -> distances between all images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from ..errors import UserError
from ..registry import Registry
from .blockwise import BlockwiseDistances, blockwise_memory
from .camera_aware_jaccard import camera_aware_jaccard
from .cameras import require_cameras
from .jaccard import k_reciprocal_jaccard
from .jaccard import memory_needed as jaccard_memory
from .jaccard_exact import KEY as EXACT_KEY
from .jaccard_exact import check_exact, exact_jaccard
from .neighbors import check_backend
from .neighbors import memory_needed as neighbors_memory
from .pairwise import PairwiseDistances, SparseDistances


class Distance(Protocol):
    """What the pipeline asks of a distance.

    One that looks at the cameras also has the method of `ChecksCameras`.

    Attributes:
        fill: that of the distances it measures, see `PairwiseDistances`.
    """

    fill: ClassVar[float]

    def measure(
        self,
        features: np.ndarray,
        camera_ids: np.ndarray | None = None,
        round_index: int = 0,
        limit: float | None = None,
    ) -> PairwiseDistances:
        """The distances between all rows of one view.

        Args:
            features: (N, D) float32.
            camera_ids: (N,) integers, or None where the cameras are unknown.
            round_index: 0 in the first round.
            limit: nobody will ask for pairs that are farther away; None: for any. A distance may
                ignore it, or answer such a question with a `ValueError`.
        """


DISTANCES = Registry("UDA.DISTANCE.NAME")  # classes with the method of `Distance`

_SHARE_OF_PAIRS = 1.6e-3  # that a rule for eps averages: the larger of the defaults
_CA_JACCARD_ADVICE = (
    "UDA.DISTANCE.NAME is CAJaccard, which compares images across cameras; set it to Jaccard"
)


@DISTANCES.register
@dataclass(frozen=True)
class Jaccard:
    """k-reciprocal Jaccard distance in [0, 1], see `jaccard.py`; k1 and k2 are clamped to N."""

    fill: ClassVar[float] = 1.0
    memory_advice: ClassVar[str] = "lower UDA.DISTANCE.JACCARD.K1 or use fewer images"

    k1: int = 30  # neighbours of the k-reciprocal sets, the image itself included; 30 as SECRET
    k2: int = 6  # neighbours averaged in the query expansion, the image included; 1: none
    # search of the nearest neighbours: `numpy` (matrix products on the CPU), `torch` (on the GPU if
    # there is one), `faiss` (likewise); all find the same neighbours in the same order. `auto`:
    # `torch` with a GPU, else `numpy`
    backend: str = "auto"
    # of the products of the back end `torch`: `float32`, or `bfloat16`, which finds candidates in
    # half precision and still gives the exact neighbours: a bound proves that they are among the
    # candidates, and rows where it does not hold are searched in float32
    precision: str = "float32"
    # `ivf` or `hnsw`: approximate neighbours by an index of faiss, for hundreds of thousands of
    # images; **other labels** than exact ones, see [performance](performance.md); empty: exact
    approximate: str = ""
    # allow that below 50,000 images, where it is slower than the exact search, too
    force_approximate: bool = False
    # the distances of fast-reid's `compute_jaccard_distance` (`search_option=3`) bit for bit (needs
    # faiss and torch; much slower), to repeat published runs where rounding decides, as at eps 0.5,
    # where distances pile up
    exact: bool = False

    def __post_init__(self) -> None:
        for key, value in (("K1", self.k1), ("K2", self.k2)):
            if value < 1:
                raise UserError(f"UDA.DISTANCE.JACCARD.{key} is {value}, but must be at least 1.")
        check_backend(self.backend, precision=self.precision, approximate=self.approximate)
        if self.exact:
            if self.approximate or self.precision != "float32":
                raise UserError(
                    f"{EXACT_KEY} is True, which is an exact search in float32; set it to False, "
                    "or UDA.DISTANCE.JACCARD.APPROXIMATE to '' and PRECISION to float32."
                )
            check_exact()

    def measure(
        self,
        features: np.ndarray,
        camera_ids: np.ndarray | None = None,
        round_index: int = 0,
        limit: float | None = None,
    ) -> SparseDistances:
        """Distances of unit rows; pairs that are not stored are at distance 1."""
        largest = self.fill if limit is None else limit
        if self.exact:
            matrix = exact_jaccard(features, self.k1, self.k2, limit=largest)
        else:
            matrix = k_reciprocal_jaccard(
                features,
                self.k1,
                self.k2,
                backend=self.backend,
                precision=self.precision,
                approximate=self.approximate,
                force_approximate=self.force_approximate,
                limit=largest,
            )
        return SparseDistances(matrix, self.fill, limit)

    def memory_needed(self, num_images: int, dimension: int) -> int:
        """Bytes that `measure` takes above the features, what it returns included, an estimate."""
        backend = "faiss" if self.exact or self.approximate else self.backend
        search = neighbors_memory(num_images, dimension, self.k1, backend)
        return max(search, jaccard_memory(num_images, self.k1, self.k2))


@DISTANCES.register
@dataclass(frozen=True)
class CAJaccard:
    """Camera-aware Jaccard distance in [0, 1], see `camera_aware_jaccard.py`.

    The defaults are those of the paper as far as we remember it, not checked against its code.
    """

    fill: ClassVar[float] = 1.0
    memory_advice: ClassVar[str] = (
        "lower UDA.DISTANCE.CAJACCARD.K1_INTRA and K1_INTER or use fewer images"
    )

    k1_intra: int = 5  # places of the list of the image's own camera, beside the image itself
    k1_inter: int = 20  # the list of all other cameras has one place more than this
    # first entries of the own camera's list, the image itself included, whose weights are averaged
    k2_intra: int = 2
    k2_inter: int = 4  # ... and of the list of other cameras; 0: none
    k2_first: int = 3  # both of them in the first round; 0: as in later rounds
    # of the neighbour search: `auto`, `numpy`, `torch` or `faiss`, as that of Jaccard
    backend: str = "auto"
    # of its products: `float32` or `bfloat16` (`torch`), as that of Jaccard
    precision: str = "float32"

    def __post_init__(self) -> None:
        for key, value, least in (
            ("K1_INTRA", self.k1_intra, 0),
            ("K1_INTER", self.k1_inter, 1),
            ("K2_INTRA", self.k2_intra, 1),
            ("K2_INTER", self.k2_inter, 0),
            ("K2_FIRST", self.k2_first, 0),
        ):
            if value < least:
                raise UserError(
                    f"UDA.DISTANCE.CAJACCARD.{key} is {value}, but must be at least {least}."
                )
        check_backend(self.backend, "UDA.DISTANCE.CAJACCARD.BACKEND", precision=self.precision)

    def check_cameras(self, camera_ids: np.ndarray | None) -> None:
        """Raise a `UserError` unless the images are of two cameras or more."""
        require_cameras(camera_ids, 2, _CA_JACCARD_ADVICE)

    def measure(
        self,
        features: np.ndarray,
        camera_ids: np.ndarray | None = None,
        round_index: int = 0,
        limit: float | None = None,
    ) -> SparseDistances:
        """Distances of unit rows; pairs that are not stored are at distance 1."""
        camera_ids = require_cameras(camera_ids, 2, _CA_JACCARD_ADVICE)
        k2 = self.k2_intra, self.k2_inter
        if round_index == 0 and self.k2_first:
            k2 = self.k2_first, self.k2_first
        k1 = self.k1_intra, self.k1_inter
        matrix = camera_aware_jaccard(
            features,
            camera_ids,
            k1=k1,
            k2=k2,
            backend=self.backend,
            precision=self.precision,
            limit=self.fill if limit is None else limit,
        )
        return SparseDistances(matrix, self.fill, limit)

    def memory_needed(self, num_images: int, dimension: int) -> int:
        """Bytes that `measure` takes above the features, what it returns included, an estimate."""
        k1, k2 = self.k1_intra + self.k1_inter + 2, self.k2_intra + self.k2_inter
        search = neighbors_memory(num_images, dimension, k1, self.backend)
        return max(search, jaccard_memory(num_images, k1, k2))


@DISTANCES.register
@dataclass(frozen=True)
class Cosine:
    """1 - cos in [0, 2], the distance of MSPLR."""

    fill: ClassVar[float] = math.nan
    memory_advice: ClassVar[str] = "use fewer images"

    def measure(
        self,
        features: np.ndarray,
        camera_ids: np.ndarray | None = None,
        round_index: int = 0,
        limit: float | None = None,
    ) -> BlockwiseDistances:
        """Distances of rows of any length, zero included."""
        return BlockwiseDistances(features, "cosine")

    def memory_needed(self, num_images: int, dimension: int) -> int:
        """Bytes that the distances take above the features while they are asked, an estimate."""
        return blockwise_memory(num_images, dimension, "cosine", _SHARE_OF_PAIRS)


@DISTANCES.register
@dataclass(frozen=True)
class Euclidean:
    """Euclidean distance, in [0, 2] for unit rows; the distance of NPLP."""

    fill: ClassVar[float] = math.nan
    memory_advice: ClassVar[str] = "use fewer images"

    def measure(
        self,
        features: np.ndarray,
        camera_ids: np.ndarray | None = None,
        round_index: int = 0,
        limit: float | None = None,
    ) -> BlockwiseDistances:
        """Distances of rows of any length."""
        return BlockwiseDistances(features, "euclidean")

    def memory_needed(self, num_images: int, dimension: int) -> int:
        """Bytes that the distances take above the features while they are asked, an estimate."""
        return blockwise_memory(num_images, dimension, "euclidean", _SHARE_OF_PAIRS)
