"""Gives every round its labels: the pseudo labels of the target, or the true ones of the source."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from ..data.build import build_extraction_loader
from ..distributed import on_main_process
from ..errors import UserError
from ..files import atomic_write
from ..labeling.label_files import labeling_to_arrays
from ..labeling.pipeline import Labeling, LabelingCollapse, PseudoLabeler
from ..labeling.quality import describe_labeling
from ..labeling.types import FeatureSet, PseudoLabels
from .feature_extraction import check_finite, extract_features, progress_bar
from .label_changes import settled_at, unchanged
from .label_folder import label_file, write_image_list

logger = logging.getLogger(__name__)

SAME_LABELS = (
    "clusters", "outliers", "kept", "eps", "near_eps", "seconds", "peak_mb", "kept_after",
    "quality",
)  # fmt: skip
"""Entries of a round's record that also hold for a round that uses its labels again."""


@contextmanager
def naming_round(number: int) -> Iterator[None]:
    """Put the round before the sentence of a `UserError` that is raised inside the block."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"Round {number}: {error}") from error


class TrueLabelHook(HookBase):
    """Labels every image with its identity, once: supervised training."""

    def before_epoch(self) -> None:
        """Start the one round of the run."""
        trainer = self.trainer
        if trainer.epoch:
            return
        identities = trainer.images.identities
        if identities is None:
            raise UserError(
                f"Stage '{trainer.stage}' trains on identities, but its images have none; set "
                "UDA.STAGES without it, or name a data set with identities."
            )
        labels = PseudoLabels(
            labels=identities,
            centroids=np.zeros((int(identities.max()) + 1, 0), np.float32),  # not used
            weights=np.ones(len(identities), np.float32),
        )
        trainer.start_round(dict.fromkeys(trainer.model.views, labels), use_centroids=False)


class PseudoLabelHook(HookBase):
    """Runs one labeling before the first epoch of every round.

    True identities are read by `_describe` and `_write_labels` alone, which report.

    Args:
        labeler: features -> labels.
        cfg: complete config.
    """

    def __init__(self, labeler: PseudoLabeler, cfg: Any) -> None:
        self._labeler = labeler
        self._cfg = cfg
        self._loader: Any = None

    def before_epoch(self) -> None:
        """Images -> features -> pseudo labels -> training set, classifier, optimiser."""
        trainer = self.trainer
        if trainer.epoch_in_round:
            return
        start = time.perf_counter()
        features = self._extract()
        extraction_seconds = time.perf_counter() - start
        checksum = [zlib.crc32(np.ascontiguousarray(x).data) for x in features.views.values()]
        same_features = trainer.memory.get("features") == checksum
        trainer.memory["features"] = checksum
        labeling = self._label_or_keep(features)
        use_centroids = self._cfg.UDA.CLASSIFIER_INIT == "centroids"
        if labeling is None:
            trainer.start_round(trainer.labels, use_centroids, features.extras)
            return
        record = self._describe(labeling, features, extraction_seconds)
        if self._stops(record["quality"], same_features):
            return
        trainer.memory |= {"eps": dict(labeling.eps), "collapsed": False, "round": record}
        self._write_labels(labeling)
        trainer.start_round(labeling.labels, use_centroids, features.extras)

    def _extract(self) -> FeatureSet:
        """The features of all target images, finite unless those that are not will be dropped."""
        trainer = self.trainer
        if self._loader is None:
            self._loader = build_extraction_loader(trainer.images, self._cfg)
        extras = dict.fromkeys((*self._labeler.extras, *trainer.model.memory_features))
        whose = "mean teacher(s)" if hasattr(trainer.model, "teachers") else "network"
        logger.info("Round %d: clustering the features of the %s.", trainer.round, whose)
        features = extract_features(trainer.model, self._loader, trainer.images, tuple(extras))
        if self._labeler.non_finite == "raise":
            with naming_round(trainer.round):
                check_finite(features, trainer.images)
        return features

    def _label_or_keep(self, features: FeatureSet) -> Labeling | None:
        """A new labeling, or None if it collapsed for the first time in a row."""
        trainer = self.trainer
        try:
            with naming_round(trainer.round):
                return on_main_process(lambda: self._label(features))
        except LabelingCollapse as collapse:
            if not trainer.labels or trainer.memory.get("collapsed"):
                again = "in this round and the one before; the rounds before are kept in OUTPUT_DIR"
                why = f" (Nothing to train on {again}.)" if trainer.labels else ""
                raise LabelingCollapse(f"{collapse}{why}") from collapse
            logger.warning("%s The labels of the round before are used once more.", collapse)
            same = trainer.records[-1] if trainer.records else {}
            kept = {name: same[name] for name in SAME_LABELS if name in same}
            trainer.memory |= {"collapsed": True, "round": kept | {"collapsed": str(collapse)}}
            return None

    def _label(self, features: FeatureSet) -> Labeling:
        trainer = self.trainer
        stages = iter(progress_bar(self._labeler.STAGES, "labels", len(self._labeler.STAGES)))
        labeling = self._labeler(
            features,
            round_index=trainer.round,
            num_rounds=trainer.num_rounds,
            kept_eps=trainer.memory.get("eps"),
            observe=lambda stage: next(stages, None),
        )
        next(stages, None)  # closes the bar
        return labeling

    def _describe(
        self, labeling: Labeling, features: FeatureSet, extraction_seconds: float
    ) -> dict[str, Any]:
        """The record of the round, logged."""
        trainer = self.trainer
        record = describe_labeling(
            labeling, features.camera_ids, trainer.images.identities, trainer.labels
        )
        record["seconds"] = {"extract": extraction_seconds, **record["seconds"]}
        self._log(record)
        return record

    def _log(self, record: dict[str, Any]) -> None:
        trainer = self.trainer
        names = ("clusters", "outliers", "kept", "eps", "near_eps")
        scalars = {f"labels/{n}": record[n] for n in names if record[n] is not None}
        scalars |= {f"labels/{name}": value for name, value in record["quality"].items()}
        if comm.is_main_process():
            trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        eps = "" if record["eps"] is None else f" at eps {record['eps']:.4f}"
        changed = f", {c} changed" if (c := record["quality"].get("changed")) is not None else ""
        logger.info(
            "Round %d: %d clusters of %d images%s, %d left out%s%s, %.1f s.",
            trainer.round, record["clusters"], record["kept"], eps, record["outliers"], changed,
            "".join(f", {name} {record['quality'][name]:.3f}"
                    for name in ("consistency", "nmi", "pair_f1") if name in record["quality"]),
            sum(record["seconds"].values()),
        )  # fmt: skip

    def _stops(self, quality: dict[str, float], same_features: bool) -> bool:
        """Whether the labels have settled; then why is in the trainer's `stop_reason`."""
        trainer = self.trainer
        why = unchanged(quality, same_features)
        if why:
            logger.warning("Round %d: %s.", trainer.round, why)
        uda = self._cfg.UDA
        ari = settled_at(quality, uda.STABLE_ARI, uda.STABLE_CHANGE)
        if ari is None:
            return False
        trainer.stop_reason = (
            f"the labels of round {trainer.round} equal those of the round before (adjusted Rand "
            f"index {ari:.4f})"
        )
        logger.info("Stopping: %s.", trainer.stop_reason)
        return True

    def _write_labels(self, labeling: Labeling) -> None:
        """OUTPUT_DIR/labels/round_<r>.npz, in the form of tools/label_features.py."""
        if not comm.is_main_process():
            return
        write_image_list(self._cfg.OUTPUT_DIR, self.trainer.images.paths)
        with atomic_write(label_file(self._cfg.OUTPUT_DIR, self.trainer.round)) as file:
            images = self.trainer.images
            arrays = labeling_to_arrays(labeling, images.identities, images.camera_ids)
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
