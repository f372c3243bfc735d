"""The stages between the features of the target images and their pseudo labels, in order."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from ..errors import UserError
from ..memory import KnowsMemory, peak_rss_mb, require_memory
from .camera_normalization import normalize_per_camera, normalize_rows
from .cameras import ChecksCameras, require_cameras
from .clustering import Clusterer
from .collapse import CLUSTERING, KeptAfter, LabelingCollapse, check_trainable, count_kept
from .distances import Distance
from .eps import EpsRule, FixedEps
from .eps_scan import EpsScan, Scan
from .feature_map import FeatureMap, map_features
from .label_silhouettes import LabelSilhouettes, label_silhouettes
from .pairwise import ROUNDING, PairwiseDistances
from .refiners import (
    ChecksViews,
    NeedsExtras,
    Refiner,
    RefinerInputs,
    check_extras,
    filters_of,
)
from .types import OUTLIER, FeatureSet, PseudoLabels, make_pseudo_labels

__all__ = ["Labeling", "LabelingCollapse", "PseudoLabeler", "StageClock"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_ROW = 1e18  # twice the sum of two squares is a float32, with room for rounding

_ZEROS_ADVICE = "UDA.CAMERA_NORMALIZATION (one image per camera gives zero rows)"
_NORMALIZATION_ADVICE = "UDA.CAMERA_NORMALIZATION needs them; set it to False"


@dataclass(frozen=True)
class Labeling:
    """The result of one round.

    Attributes:
        labels: view -> the refined labels.
        clusters: view -> the labels as the clusterer made them.
        eps: view -> the DBSCAN radius; empty for clusterers that use none.
        near_eps: view -> pairs within 2e-6 of eps, which float32 rounding decides.
        seconds: stage -> duration.
        kept_after: what the clusterer and each filter of the refiners left, in order.
        peak_mb: stage -> the most memory, in MiB, that the process had had when it ended.
        silhouettes: view -> how well the images sit in their clusters.
        feature_map: of the clustered features of the first view, if it was asked for.
    """

    labels: Mapping[str, PseudoLabels]
    clusters: Mapping[str, PseudoLabels]
    eps: Mapping[str, float]
    near_eps: Mapping[str, int]
    seconds: Mapping[str, float]
    kept_after: KeptAfter = field(default_factory=dict)
    peak_mb: Mapping[str, int] = field(default_factory=dict)
    silhouettes: Mapping[str, LabelSilhouettes] = field(default_factory=dict)
    feature_map: FeatureMap | None = None


@dataclass
class StageClock:
    """Measures the stages of one round and tells an observer when each begins."""

    observe: Callable[[str], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to `seconds[name]`; note the peak of memory."""
        if self.observe is not None:
            self.observe(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        peak = peak_rss_mb()
        if peak is not None:
            self.peak_mb[name] = peak


@dataclass(frozen=True)
class PseudoLabeler:
    """features -> normalised features -> distances -> clusters -> refined labels.

    Attributes:
        camera_normalization: standardise the features of each camera before they are clustered.
        row_normalization: L2-normalise the features that are clustered.
        join_views: cluster the concatenation of all views; every view gets the same clusters.
        distance: how the distances are measured; not used unless the clusterer or a refiner does.
        eps: the DBSCAN radius, or the rule that finds it.
        eps_update: `first`: the radius found in the first round is kept; `every`: found each round.
        clusterer: DBSCAN, HDBSCAN or k-means.
        refiners: applied in order; none is plain clustering, the baseline.
        non_finite: what to do with images that have a NaN or infinite feature: `raise` or `drop`.
        seed: of everything random in the clusterer, and of the sample of the map.
        map_images: images of the map of features, see `feature_map.py`; 0: there is none.
    """

    distance: Distance
    eps: EpsRule
    clusterer: Clusterer
    refiners: tuple[Refiner, ...] = ()
    camera_normalization: bool = False
    row_normalization: bool = True
    join_views: bool = False
    eps_update: str = "first"
    non_finite: str = "raise"
    seed: int = 0
    map_images: int = 0

    STAGES = ("normalize", "distances", "eps", "cluster", "refine", "describe")

    def __call__(
        self,
        features: FeatureSet,
        round_index: int = 0,
        num_rounds: int = 1,
        kept_eps: Mapping[str, float] | None = None,
        observe: Callable[[str], None] | None = None,
    ) -> Labeling:
        """Label all images.

        Args:
            features: of all target images, any finite values.
            round_index: 0 in the first round.
            num_rounds: the planned number of rounds.
            kept_eps: view -> the radius of the first round, used again if `eps_update` is `first`.
            observe: called with the name of each stage as it begins.

        Raises:
            LabelingCollapse: fewer than two classes are left in some view, or in the training set.
            UserError: no images, features that are missing or not finite, or a stage cannot work
                with them.
        """
        finite = self._check(features)
        if not finite.all():
            labeling = self(features.subset(finite), round_index, num_rounds, kept_eps, observe)
            return expand(labeling, finite)
        clock = StageClock(observe)
        with clock.stage("normalize"):
            plain = features.map_views(normalize_rows)
            clustered = self._normalize(features, plain)
        known_eps = self._known_eps(clustered, kept_eps)
        with clock.stage("distances"):
            distances = self._measure(clustered, round_index, known_eps)
        with clock.stage("eps"):
            eps = known_eps or self._find_eps(clustered, distances)
            near_eps = per_space(lambda view: distances[view].count_near(eps[view]), eps)
        with clock.stage("cluster"):
            self._require_memory(self.clusterer, "Clustering", clustered)
            raw = per_space(
                lambda view: self._cluster(clustered, distances, view, eps.get(view)),
                clustered.views,
            )
            clusters = {view: make_pseudo_labels(raw[view], x) for view, x in plain.views.items()}
        with clock.stage("refine"):
            inputs = RefinerInputs(
                plain, clustered, distances, clusters, eps, round_index, num_rounds
            )
            labels, kept_after = self._refine(inputs)
        self._check_trainable(inputs, labels, kept_after)
        with clock.stage("describe"):
            silhouettes = {
                view: label_silhouettes(
                    clustered.views[view], distances.get(view), eps.get(view),
                    clusters[view].labels, part.labels,
                )
                for view, part in labels.items()
            }  # fmt: skip
            first, *_ = clustered.views.values()
            feature_map = map_features(first, self.map_images, self.seed)
        return Labeling(
            labels, clusters, eps, near_eps, clock.seconds, kept_after, clock.peak_mb,
            silhouettes, feature_map,
        )  # fmt: skip

    def _refine(
        self, inputs: RefinerInputs
    ) -> tuple[Mapping[str, PseudoLabels], dict[str, dict[str, dict[str, int]]]]:
        """The labels after all refiners, and what each of their filters left."""
        kept_after = {CLUSTERING: count_kept(inputs.clusters)}
        for refiner in self.refiners:
            for name, labels in filters_of(refiner, inputs).items():
                again = sum(known.split(" ")[0] == name for known in kept_after)
                kept_after[f"{name} {again + 1}" if again else name] = count_kept(labels)
                inputs = replace(inputs, clusters=labels)
        for name, counts in kept_after.items():
            logger.debug("After %s: %s.", name, counts)
        return inputs.clusters, kept_after

    def _check_trainable(
        self, inputs: RefinerInputs, labels: Mapping[str, PseudoLabels], kept_after: KeptAfter
    ) -> None:
        """Raise a `LabelingCollapse` unless there are two classes to train on."""
        eps, key = inputs.eps, "UDA.CLUSTER.EPS"
        if not self.clusterer.uses_eps:
            eps, key = {}, f"UDA.CLUSTER.{type(self.clusterer).__name__.upper()}"
        # Ends at the second row, as a rule.
        differ = any((row != x[0]).any() for x in inputs.features.views.values() for row in x)
        check_trainable(
            inputs.clusters, labels, eps, key,
            kept_after=kept_after,
            distances=inputs.distances,
            features=inputs.clustered.views,
            zero_key=_ZEROS_ADVICE if self.camera_normalization and differ else "",
        )  # fmt: skip

    def scan_eps(
        self,
        features: FeatureSet,
        rule: Scan,
        progress: Callable[[Sequence[float]], Iterable[float]] = iter,
        round_index: int = 0,
    ) -> dict[str, EpsScan]:
        """How the clusters of each view depend on eps; nothing is refined.

        Args:
            features: of all target images, any finite values.
            rule: which eps are tried.
            progress: wraps the grid of each view, e.g. in a progress bar.
            round_index: of the round whose distances are scanned.

        Returns:
            view -> its scan. Images that were left out (`non_finite` is `drop`) are outliers in the
            labels and not counted in the rows.

        Raises:
            UserError: as `__call__`, or the clusterer has no eps.
        """
        if not self.clusterer.uses_eps:
            raise UserError(
                f"UDA.CLUSTER.NAME is {type(self.clusterer).__name__}, which has no eps to scan; "
                "set it to DBSCAN."
            )
        finite = self._check(features)
        part = features.subset(finite)
        clustered = self._normalize(part, part.map_views(normalize_rows))
        distances = self._measure(clustered, round_index, {})

        def scan(view: str) -> EpsScan:
            cluster = partial(self._cluster, clustered, distances, view)
            found = rule.scan(distances[view], part.camera_ids, cluster, progress)
            labels = np.full((len(found.rows), len(finite)), OUTLIER)
            labels[:, finite] = found.labels
            return replace(found, labels=labels)

        return per_space(scan, distances)

    @property
    def extras(self) -> tuple[str, ...]:
        """The names of all that the refiners read beside the views, each once."""
        names = (name for refiner in self._needing_extras() for name in refiner.extras)
        return tuple(dict.fromkeys(names))

    def _needing_extras(self) -> list[NeedsExtras]:
        return [refiner for refiner in self.refiners if isinstance(refiner, NeedsExtras)]

    def check_views(self, views: Sequence[str]) -> None:
        """Raise a `UserError` if a refiner cannot work with the views of a network or a file."""
        for refiner in self.refiners:
            if isinstance(refiner, ChecksViews):
                refiner.check_views(views)
                if self.join_views:
                    raise UserError(
                        f"UDA.JOIN_VIEWS is True, which gives all views the same labels, but "
                        f"{type(refiner).__name__} compares them; change it or UDA.REFINERS."
                    )

    def check_cameras(self, camera_ids: np.ndarray | None) -> None:
        """Raise a `UserError` if a stage cannot work with the cameras of the target images.

        Args:
            camera_ids: (N,) integers, or None where the cameras are unknown.
        """
        if self.camera_normalization:
            require_cameras(camera_ids, 1, _NORMALIZATION_ADVICE)
        stages: list[object] = [self.clusterer, *self.refiners]
        stages += [self.distance] if self.uses("uses_distances") else []
        stages += [self.eps] if self.uses("uses_eps") else []
        for stage in stages:
            if isinstance(stage, ChecksCameras):
                stage.check_cameras(camera_ids)

    def _check(self, features: FeatureSet) -> np.ndarray:
        """(N,) bool, True for the images of which all features that are read are finite."""
        if features.num_images < 2:
            raise UserError(
                f"The target set has {features.num_images} image(s), but clustering needs at "
                "least 2; check the folder of the target data set."
            )
        self.check_cameras(features.camera_ids)
        for refiner in self._needing_extras():
            check_extras(refiner, features)
        read = [*features.views.values(), *(features.extras[name] for name in self.extras)]
        finite = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in read])
        bad = np.flatnonzero(~finite)
        if len(bad) and (self.non_finite == "raise" or finite.sum() < 2):
            shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            left, remedy = "", "set UDA.NON_FINITE to drop to leave them out"
            if finite.sum() < 2:
                left = f", and clustering needs at least 2 others, not {finite.sum()}"
                remedy = "replace them"
            raise UserError(
                f"The features of {len(bad)} of {len(finite)} images are not finite (rows {shown})"
                f"{left}; the model has diverged (lower SOLVER.BASE_LR) or the images are broken "
                f"({remedy})."
            )
        zero = sum(int((~x.any(axis=1)).sum()) for x in features.views.values())
        if zero:
            logger.warning("%d feature rows are zero: black images, or a dead branch?", zero)
        return finite

    def _normalize(self, features: FeatureSet, plain: FeatureSet) -> FeatureSet:
        """The features to cluster: `plain`, the unit rows, unless an option asks for others."""
        if self.camera_normalization:
            camera_ids = require_cameras(features.camera_ids, 1, _NORMALIZATION_ADVICE)
            features = features.map_views(lambda x: normalize_per_camera(x, camera_ids))
            if self.row_normalization:
                features = features.map_views(normalize_rows)
        elif self.row_normalization:
            features = plain
        else:
            require_finite_squares(features)
        return concatenate_views(features) if self.join_views else features

    def uses(self, attribute: str) -> bool:
        """Whether the clusterer or a refiner has `uses_distances` or `uses_eps`."""
        return any(getattr(stage, attribute, False) for stage in (self.clusterer, *self.refiners))

    def _known_eps(
        self, features: FeatureSet, kept_eps: Mapping[str, float] | None
    ) -> dict[str, float]:
        """The radius of each view, if it is known before the distances are; else empty."""
        if not self.uses("uses_eps"):
            return {}
        if isinstance(self.eps, FixedEps):
            return dict.fromkeys(features.views, self.eps.eps)
        if kept_eps and self.eps_update == "first":
            return {view: kept_eps[view] for view in features.views}
        return {}

    def _find_eps(
        self, features: FeatureSet, distances: Mapping[str, PairwiseDistances]
    ) -> dict[str, float]:
        if not self.uses("uses_eps"):
            return {}

        def find(view: str) -> float:
            cluster = partial(self._cluster, features, distances, view)
            return self.eps.find(distances[view], features.camera_ids, cluster)

        return per_space(find, distances)

    def _measure(
        self, features: FeatureSet, round_index: int, known_eps: Mapping[str, float]
    ) -> dict[str, PairwiseDistances]:
        if not self.uses("uses_distances"):
            return {}
        self._require_memory(self.distance, "Measuring the distances", features)
        readers = [stage for stage in (self.clusterer, *self.refiners)
                   if getattr(stage, "uses_distances", False)]  # fmt: skip
        enough = known_eps and all(getattr(stage, "within_eps", False) for stage in readers)

        def measure(view: str) -> PairwiseDistances:
            limit = known_eps[view] + ROUNDING if enough else None
            return self.distance.measure(
                features.views[view], features.camera_ids, round_index, limit=limit
            )

        return per_space(measure, features.views)

    def _require_memory(self, stage: object, task: str, features: FeatureSet) -> None:
        """Announce what a stage will take, in all views together, if it can tell."""
        if isinstance(stage, KnowsMemory):
            spaces = {id(x): x for x in features.views.values()}.values()
            needed = sum(stage.memory_needed(*x.shape) for x in spaces)
            images = f"{features.num_images:,} images"
            images += f" in {len(spaces)} views" if len(spaces) > 1 else ""
            require_memory(f"{task} of {images}", needed, stage.memory_advice)

    def _cluster(
        self,
        features: FeatureSet,
        distances: Mapping[str, PairwiseDistances],
        view: str,
        eps: float | None,
    ) -> np.ndarray:
        """The labels (N,) of one view."""
        return self.clusterer.cluster(features.views[view], distances.get(view), eps, self.seed)


def require_finite_squares(features: FeatureSet) -> None:
    """Raise a `UserError` if a row is so long that float32 cannot hold a squared distance."""
    for view, x in features.views.items():
        longest = math.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64).max())
        if longest > _LONGEST_ROW:
            raise UserError(
                f"The features of view '{view}' are up to {longest:.2g} long, too long for "
                "distances in float32; the model has diverged (lower SOLVER.BASE_LR), or set "
                "UDA.ROW_NORMALIZATION to True."
            )


def per_space(compute: Callable[[str], T], spaces: Mapping[str, object]) -> dict[str, T]:
    """`compute(view)` for every view, once for all views that share one space.

    Args:
        compute: called with one of the views that have a space.
        spaces: view -> its features or distances; the same object stands for the same space.
    """
    one_view = {id(space): view for view, space in spaces.items()}
    results = {key: compute(view) for key, view in one_view.items()}
    return {view: results[id(space)] for view, space in spaces.items()}


def concatenate_views(features: FeatureSet) -> FeatureSet:
    """All views in one space: every view is the same array, the views side by side.

    Divided by the root of their number, so that unit rows give unit rows.
    """
    views = list(features.views.values())
    joined = np.concatenate(views, axis=1) / np.float32(math.sqrt(len(views)))
    return replace(features, views=dict.fromkeys(features.views, joined))


def expand(labeling: Labeling, rows: np.ndarray) -> Labeling:
    """The labeling of a subset as one of all images; images outside the subset are outliers."""
    return replace(
        labeling,
        labels={view: part.expand(rows) for view, part in labeling.labels.items()},
        clusters={view: part.expand(rows) for view, part in labeling.clusters.items()},
        silhouettes={view: part.expand(rows) for view, part in labeling.silhouettes.items()},
        feature_map=labeling.feature_map and labeling.feature_map.expand(rows),
    )
