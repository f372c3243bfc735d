"""fast-reid's evaluation of a test set, without its compiler, its GPU and its dense matrices.

Reference: fast-reid `fastreid/evaluation/reid_evaluation.py`, `ReidEvaluator`. Constructor, result
keys and their order are the same. fast-reid's evaluator runs `make` inside site-packages when it
is constructed and ends the process if that fails; this one needs no compiler.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fastreid.evaluation.evaluator import DatasetEvaluator
from fastreid.utils import comm

from ..distributed import on_main_process
from ..errors import UserError
from .distances import DistanceBlocks, count_nonfinite_rows, feature_distances
from .drawn_galleries import draw_galleries
from .ranking import evaluate_ranking
from .reranking import reranked_distances

logger = logging.getLogger(__name__)

_ROC_FALSE_POSITIVE_RATES = (1e-4, 1e-3, 1e-2)
_ROC_BLOCK_ROWS = 256


@dataclass(frozen=True)
class _Images:
    """Row n of every array is image n: features (N, D) float32, the ids (N,) integers."""

    features: np.ndarray
    identities: np.ndarray
    camera_ids: np.ndarray

    def __getitem__(self, rows: slice | np.ndarray) -> _Images:
        return _Images(self.features[rows], self.identities[rows], self.camera_ids[rows])


class BlockwiseReidEvaluator(DatasetEvaluator):
    """Rank-1/5/10, mAP, mINP and their summary "metric", in percent.

    Honours TEST.METRIC, TEST.AQE, TEST.RERANK and TEST.ROC. The features are in memory once; the
    distances are, but for TEST.AQE and TEST.ROC, never there as a whole.
    """

    def __init__(
        self, cfg: Any, num_query: int, output_dir: str | None = None, *, draws: int = 0
    ) -> None:
        """Args as fast-reid's `ReidEvaluator`, and one more.

        Args:
            cfg: fast-reid's config; only TEST is read.
            num_query: the first `num_query` images of the test set are the queries.
            output_dir: unused, as in fast-reid.
            draws: above 0: the gallery is one random image of each identity, drawn so many times
                from all images, and the results are the means; `num_query` is not read.
        """
        self._test = cfg.TEST
        self._num_query, self._draws = num_query, draws
        self._batches: list[_Images] = []

    def reset(self) -> None:
        """Forgets all images."""
        self._batches = []

    def process(self, inputs: Mapping[str, Any], outputs: Any) -> None:
        """Keeps one batch.

        Args:
            inputs: "targets" and "camids", (B,) integers each.
            outputs: (B, D) tensor.
        """
        self._batches.append(
            _Images(
                outputs.detach().to("cpu", torch.float32).numpy(),
                inputs["targets"].cpu().numpy(),
                inputs["camids"].cpu().numpy(),
            )
        )

    def evaluate(self) -> dict[str, float]:
        """The results on the main process, {} on the others.

        Raises:
            UserError: on every process, if the features cannot be scored.
        """
        if self._batches:
            self._batches = [_joined(self._batches)]
        batches = [batch for rank in comm.gather(self._batches, dst=0) for batch in rank]
        results = on_main_process(lambda: self._score(_joined(batches)))
        return results if comm.is_main_process() else {}

    def _score(self, images: _Images) -> dict[str, float]:
        if bad := count_nonfinite_rows(images.features):
            raise UserError(
                f"{bad} of {len(images.features)} test features hold NaN or infinity: the model "
                "has diverged; go back to an earlier checkpoint or lower SOLVER.BASE_LR."
            )
        if not self._draws:
            return self._score_split(images[: self._num_query], images[self._num_query :])
        splits = draw_galleries(images.identities, self._draws)
        scores = [self._score_split(images[query], images[gallery]) for query, gallery in splits]
        maps = [score["mAP"] for score in scores]
        logger.info(
            "Means over %d drawn galleries of %d images; their mAP is from %.2f to %.2f.",
            self._draws, len(np.unique(images.identities)), min(maps), max(maps),
        )  # fmt: skip
        return OrderedDict((key, float(np.mean([s[key] for s in scores]))) for key in scores[0])

    def _score_split(self, query: _Images, gallery: _Images) -> dict[str, float]:
        distances = self._distances(query, gallery)
        scores = evaluate_ranking(
            None,
            None,
            query.identities,
            gallery.identities,
            query.camera_ids,
            gallery.camera_ids,
            distances=distances,
        )
        results = OrderedDict(scores.percentages())
        results["metric"] = (results["mAP"] + results["Rank-1"]) / 2
        if self._test.ROC.ENABLED:
            results.update(_roc_rates(distances, query, gallery))
        return results

    def _distances(self, query: _Images, gallery: _Images) -> DistanceBlocks:
        test = self._test
        features = query.features, gallery.features
        if test.AQE.ENABLED:
            logger.info("Test with average query expansion (TEST.AQE)")
            features = _expanded(*features, test.AQE)
        if not test.RERANK.ENABLED:
            return feature_distances(*features, test.METRIC)
        logger.info("Test with re-ranking (TEST.RERANK)")
        return reranked_distances(
            *features,
            metric=test.METRIC,
            k1=test.RERANK.K1,
            k2=test.RERANK.K2,
            lambda_value=test.RERANK.LAMBDA,
        )


def _joined(batches: list[_Images]) -> _Images:
    """All images in order; empties the list on the way, so that no feature is held twice."""
    if not batches:
        raise UserError("The evaluator got no image; check the test set in DATASETS.TESTS.")
    if len(batches) == 1:
        return batches[0]
    identities = np.concatenate([batch.identities for batch in batches])
    camera_ids = np.concatenate([batch.camera_ids for batch in batches])
    features = np.empty((len(identities), batches[0].features.shape[1]), dtype=np.float32)
    stop = len(features)
    while batches:
        batch = batches.pop()
        features[stop - len(batch.features) : stop] = batch.features
        stop -= len(batch.features)
    return _Images(features, identities, camera_ids)


def _expanded(
    query: np.ndarray, gallery: np.ndarray, aqe_cfg: Any
) -> tuple[np.ndarray, np.ndarray]:
    from fastreid.evaluation.query_expansion import aqe

    tensors = torch.from_numpy(query), torch.from_numpy(gallery)
    expanded = aqe(*tensors, aqe_cfg.QE_TIME, aqe_cfg.QE_K, aqe_cfg.ALPHA)
    return expanded[0].numpy(), expanded[1].numpy()


def _roc_rates(distances: DistanceBlocks, query: _Images, gallery: _Images) -> dict[str, float]:
    """fast-reid's "TPR@FPR" figures, shares in [0, 1].

    As there, the DIFFERENT people are the positives and the distance is their score: it is the
    share of them beyond the distance that the given share of true matches exceeds.
    """
    from sklearn.metrics import roc_curve

    scores, labels = [], []
    for start in range(0, len(query.identities), _ROC_BLOCK_ROWS):
        rows = query[start : start + _ROC_BLOCK_ROWS]
        same_identity = rows.identities[:, None] == gallery.identities
        kept = ~(same_identity & (rows.camera_ids[:, None] == gallery.camera_ids))
        scores.append(distances(start, start + len(rows.identities))[kept])
        labels.append(~same_identity[kept])
    false_rates, true_rates, _ = roc_curve(np.concatenate(labels), np.concatenate(scores))
    return {
        f"TPR@FPR={rate:.0e}": true_rates[np.argmin(np.abs(false_rates - rate))]
        for rate in _ROC_FALSE_POSITIVE_RATES
    }
