"""The stages of a run: source training, direct transfer, adaptation, supervised upper bound."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from fastreid.utils import comm

from .. import __version__
from ..config import build_labeler, method_name
from ..config_loading import source_config
from ..data.build import load_training_images
from .checkpointing import FINAL
from .full_disk import named_full_disk
from .label_hooks import PseudoLabelHook, TrueLabelHook
from .output_folder import clean_up, is_trained, set_earlier_run_aside, warn_of_earlier_runs
from .run_warnings import RunWarnings, kept_warnings, said_later, warnings_list
from .summary import RunSummary, results_table, rounds_table
from .target_statistics_hook import TargetStatisticsHook
from .trainer import UDATrainer
from .weights import load_weights, network_files

logger = logging.getLogger(__name__)


def evaluate_only(cfg: Any) -> dict[str, float]:
    """Scores of the network in MODEL.WEIGHTS on DATASETS.TESTS, in per cent."""
    return _scores_of(cfg, network_files(cfg))


def run_stages(cfg: Any, resume: bool) -> dict[str, Any]:
    """Run `UDA.STAGES` in their order.

    Args:
        cfg: complete config.
        resume: continue each stage from its last checkpoint.

    Returns:
        What OUTPUT_DIR/summary.json holds.
    """
    clean_up(cfg.OUTPUT_DIR)
    summary = RunSummary(
        os.path.join(cfg.OUTPUT_DIR, "summary.json"),
        {
            "method": method_name(cfg),
            "source": "+".join(cfg.DATASETS.NAMES) if "source" in cfg.UDA.STAGES else "",
            "target": "+".join(cfg.UDA.TARGET),
            "seed": cfg.UDA.SEED,
            "version": __version__,
        },
    )
    if resume:
        summary.load()
        summary.content.pop("stopped", None)  # found anew
    elif "adapt" in cfg.UDA.STAGES:
        _look_at_source_networks(cfg)
        # Before the source stage: a run killed there must not find an older adaptation to resume.
        set_earlier_run_aside(cfg.OUTPUT_DIR, resume)
    kept = kept_warnings(summary.content.get("warnings"))
    with named_full_disk(cfg.OUTPUT_DIR), kept as warnings:
        _run_each(cfg, summary, warnings, resume)
    table = results_table(summary.content)
    if table:
        logger.info("Scores in per cent on %s:\n%s", "+".join(cfg.DATASETS.TESTS), table)
    if warnings.entries:
        _update(summary, warnings=warnings.entries)
        logger.info("Warnings of this run:\n%s", warnings_list(warnings.entries))
    return summary.content


def _run_each(cfg: Any, summary: RunSummary, warnings: RunWarnings, resume: bool) -> None:
    """The stages in their order."""
    weights = network_files(cfg)
    for stage in cfg.UDA.STAGES:
        if stage == "source" and not cfg.MODEL.WEIGHTS:
            weights = [
                _train_supervised(source_config(cfg, stage, student), stage, resume)
                for student in range(cfg.UDA.MEAN_TEACHER.STUDENTS)
            ]
        elif stage == "adapt":
            _adapt(_start_from(cfg, weights), summary, warnings, resume)
        elif stage == "supervised":
            recipe = source_config(cfg, stage)
            final = _train_supervised(recipe, stage, resume)
            _update(summary, supervised=_scores_of(recipe, [final]))
    if "adapt" not in cfg.UDA.STAGES and weights:
        _update(summary, direct_transfer=_scores_of(cfg, weights))


def _look_at_source_networks(cfg: Any) -> None:
    """Refuse source networks that cannot be used, while the earlier run is in its place."""
    if "source" not in cfg.UDA.STAGES or cfg.MODEL.WEIGHTS:
        return
    images = load_training_images(cfg.DATASETS.NAMES, cfg, cfg.DATASETS.COMBINEALL)
    with said_later():
        for student in range(cfg.UDA.MEAN_TEACHER.STUDENTS):
            is_trained(source_config(cfg, "source", student), images.digest, "source", False)


def _train_supervised(cfg: Any, stage: str, resume: bool) -> str:
    """Train on true labels into OUTPUT_DIR, unless that has been done; gives the network's path."""
    final = os.path.join(cfg.OUTPUT_DIR, FINAL)
    combineall = stage == "source" and cfg.DATASETS.COMBINEALL
    images = load_training_images(cfg.DATASETS.NAMES, cfg, combineall)
    if is_trained(cfg, images.digest, stage, resume):
        return final
    set_earlier_run_aside(cfg.OUTPUT_DIR, resume)
    hooks = []
    if stage == "source" and cfg.UDA.SOURCE.TARGET_BN:
        hooks = [TargetStatisticsHook(load_training_images(cfg.UDA.TARGET, cfg), cfg)]
    trainer = UDATrainer(cfg, images, stage=stage, label_hook=TrueLabelHook(), step_hooks=hooks)
    if resume:
        trainer.resume()
    trainer.train()
    return final


def _adapt(cfg: Any, summary: RunSummary, warnings: RunWarnings, resume: bool) -> None:
    """All rounds of adaptation."""
    images = load_training_images(cfg.UDA.TARGET, cfg)

    def on_round_end(records: list[dict[str, Any]]) -> None:
        if comm.is_main_process():
            summary.set_rounds(records, warnings=warnings.entries)

    trainer = UDATrainer(
        cfg,
        images,
        stage="adapt",
        label_hook=PseudoLabelHook(build_labeler(cfg), cfg),
        num_rounds=cfg.UDA.ROUNDS,
        on_round_end=on_round_end,
    )
    if resume and trainer.resume():
        _update(summary, direct_transfer=trainer.memory["direct_transfer"])
    else:
        if resume:
            warn_of_earlier_runs(cfg.OUTPUT_DIR)
        if cfg.MODEL.WEIGHTS:
            load_weights(trainer.model, network_files(cfg))
        direct_transfer = UDATrainer.evaluate(cfg, trainer.model)
        trainer.memory["direct_transfer"] = direct_transfer
        _update(summary, direct_transfer=direct_transfer)
    warnings.follow(trainer)
    trainer.train()
    on_round_end(trainer.records)
    if trainer.stop_reason:
        _update(summary, stopped=trainer.stop_reason)
    if trainer.records:
        logger.info("Rounds:\n%s", rounds_table(trainer.records))


def _start_from(cfg: Any, weights: Sequence[str]) -> Any:
    """The config with the networks to start from, which make ImageNet weights superfluous."""
    cfg = cfg.clone()
    cfg.defrost()
    if weights:
        cfg.MODEL.WEIGHTS, cfg.UDA.MEAN_TEACHER.WEIGHTS = weights[0], tuple(weights[1:])
        cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.freeze()
    return cfg


def _scores_of(cfg: Any, weights: Sequence[str]) -> dict[str, float]:
    """Scores of saved networks."""
    cfg = _start_from(cfg, weights)
    model = UDATrainer.build_model(cfg)
    load_weights(model, weights, tested=cfg.TEST.VIEWS)
    return UDATrainer.evaluate(cfg, model)


def _update(summary: RunSummary, **entries: Any) -> None:
    if comm.is_main_process():
        summary.update(**entries)
