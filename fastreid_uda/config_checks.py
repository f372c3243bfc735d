"""Refuses the values of a config that could only fail later, before anything is done."""

from __future__ import annotations

import re
from typing import Any

from .config import build_labeler, check_choice
from .config_ranges import check_ranges
from .errors import UserError
from .labeling.clustering import ChecksDistances
from .labeling.eps import FixedEps


def check_config(cfg: Any) -> None:
    """Refuse values that could only fail later, in one sentence each.

    Raises:
        UserError: naming the key, its value and what is accepted.
    """
    check_ranges(cfg)
    uda = cfg.UDA
    for stage in uda.STAGES:
        check_choice("UDA.STAGES", stage)
    check_choice("UDA.CLASSIFIER_INIT", uda.CLASSIFIER_INIT)
    check_choice("MODEL.LOSSES.CE.SMOOTHING", cfg.MODEL.LOSSES.CE.SMOOTHING)
    check_choice("MODEL.HEADS.NECK_FEAT", cfg.MODEL.HEADS.NECK_FEAT, ("before", "after"))
    modes = ("constant", "edge", "reflect", "symmetric")
    check_choice("INPUT.PADDING.MODE", cfg.INPUT.PADDING.MODE, modes)
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", cfg.MODEL.DEVICE):
        raise UserError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; set it to cuda, cuda:0 or cpu.")
    if not cfg.MODEL.LOSSES.NAME:
        raise UserError("MODEL.LOSSES.NAME is empty, but training needs a loss; name one or more.")
    if not uda.TARGET and {"adapt", "supervised"} & set(uda.STAGES):
        raise UserError(
            "UDA.TARGET is empty, but adaptation needs a target data set; set it to a registered "
            "name, e.g. UDA.TARGET \"('Market1501',)\"."
        )
    if uda.SOURCE.TARGET_BN and "source" in uda.STAGES and not uda.TARGET:
        raise UserError(
            "UDA.SOURCE.TARGET_BN is True in the source recipe, but UDA.TARGET is empty; name the "
            "target, or add UDA.SOURCE.OPTS \"['UDA.SOURCE.TARGET_BN', False]\"."
        )
    _check_solver(cfg)
    _check_mean_teacher(cfg)
    _check_labeler(cfg)


def _check_labeler(cfg: Any) -> None:
    """The stages of labeling, alone and with the distances that they work on."""
    labeler = build_labeler(cfg)
    fill = labeler.distance.fill
    if isinstance(labeler.eps, FixedEps) and labeler.eps.eps >= fill:
        raise UserError(
            f"UDA.CLUSTER.EPS is {labeler.eps.eps}, but {cfg.UDA.DISTANCE.NAME} distances end at "
            f"{fill}; choose less."
        )
    for stage in (labeler.clusterer, labeler.eps):
        if isinstance(stage, ChecksDistances):
            stage.check_distances(fill)


def _check_solver(cfg: Any) -> None:
    if cfg.SOLVER.IMS_PER_BATCH % cfg.DATALOADER.NUM_INSTANCE:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, but it must be a multiple of "
            f"DATALOADER.NUM_INSTANCE ({cfg.DATALOADER.NUM_INSTANCE}): a batch is made of "
            "identities with that many images each."
        )
    if cfg.SOLVER.SCHED != "EpochWarmupMultiStepLR":
        for key, value in (
            ("UDA.RESTART_SCHEDULE False", not cfg.UDA.RESTART_SCHEDULE),
            ("UDA.FREEZE_BEFORE_SCHEDULE True", cfg.UDA.FREEZE_BEFORE_SCHEDULE),
            ("SOLVER.STEP_FACTORS", cfg.SOLVER.STEP_FACTORS),
        ):
            if value:
                raise UserError(
                    f"{key} needs the schedule EpochWarmupMultiStepLR, but SOLVER.SCHED is "
                    f"{cfg.SOLVER.SCHED}; change one of them."
                )
    epsilon = cfg.MODEL.LOSSES.CE.EPSILON
    if not (epsilon == -1 or 0 <= epsilon < 1):
        raise UserError(
            f"MODEL.LOSSES.CE.EPSILON is {epsilon}, but it must be 0 or more and less than 1, or "
            "-1, which smooths adaptively."
        )
    check_choice(
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, ("norm", "value")
    )
    _check_step_factors(cfg.SOLVER)


def _check_mean_teacher(cfg: Any) -> None:
    node = cfg.UDA.MEAN_TEACHER
    check_choice("UDA.MEAN_TEACHER.TEACHING", node.TEACHING)
    if node.STUDENTS > 1 and not node.ENABLED:
        raise UserError(
            f"UDA.MEAN_TEACHER.STUDENTS is {node.STUDENTS}, but UDA.MEAN_TEACHER.ENABLED is False; "
            "several networks learn from each other through teachers: enable it, or train one."
        )
    names = all(isinstance(path, str) and path for path in node.WEIGHTS)
    fits = bool(cfg.MODEL.WEIGHTS) and len(node.WEIGHTS) == node.STUDENTS - 1
    if node.WEIGHTS and not (names and fits):
        raise UserError(
            f"UDA.MEAN_TEACHER.WEIGHTS is {tuple(node.WEIGHTS)}, but it names one file for each of "
            f"UDA.MEAN_TEACHER.STUDENTS ({node.STUDENTS}) but the first, whose file is "
            f"MODEL.WEIGHTS ({cfg.MODEL.WEIGHTS!r})."
        )


def _check_step_factors(solver: Any) -> None:
    factors, steps = list(solver.STEP_FACTORS), list(solver.STEPS)
    if not factors:
        return
    if len(factors) != len(steps) or steps != sorted(steps):
        raise UserError(
            f"SOLVER.STEP_FACTORS is {factors}, but it needs one factor, 0 or more, for each of "
            f"SOLVER.STEPS ({steps}), which ascend."
        )
