"""What can be known to fail before anything is written."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.solver import lr_scheduler

from ..config import build_labeler
from ..config_loading import source_config
from ..data.pseudo_labeled_dataset import seeded
from ..data.samplers.batch_samplers import SAMPLERS
from ..errors import UserError
from ..evaluation.distances import METRICS
from ..labeling.refiners.base import STUDENT
from ..labeling.types import RESERVED
from ..modeling.build import build_network
from ..modeling.heads.pseudo_label_head import check_head, heads_that_give
from ..modeling.losses import LOSSES, ClassMemory
from ..modeling.meta_arch.uda_baseline import build_losses, losses_of, uses_classifier
from .data_checks import check_datasets
from .learning_rate import EPOCH_SCHEDULE
from .run_warnings import said_later
from .weights import load_weights, network_files

SCHEDULES = (EPOCH_SCHEDULE, "MultiStepLR", "CosineAnnealingLR")


def check_run(cfg: Any, eval_only: bool, goes_on: bool = False) -> None:
    """Names, files, device and data sets of a run.

    Args:
        cfg: complete config.
        eval_only: whether a network is scored and nothing else.
        goes_on: whether all networks come from a checkpoint of the run: the files that it started
            from are not needed.

    Raises:
        UserError: one of them is unknown or missing.
    """
    _check_names(cfg)
    _check_views(cfg)
    for stage in cfg.UDA.STAGES:
        stage_cfg = cfg if stage == "adapt" else source_config(cfg, stage)
        _check_names(stage_cfg)
        _check_losses(stage_cfg, stage)
        if stage_cfg.MODEL.BACKBONE != cfg.MODEL.BACKBONE:
            _check_network(stage_cfg)
    if "adapt" in cfg.UDA.STAGES and not eval_only:
        _check_labeler(cfg)
    if cfg.TEST.PRECISE_BN.ENABLED:
        raise UserError("TEST.PRECISE_BN.ENABLED is True, which is not supported; set it to False.")
    named = [
        ("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS),
        *(("UDA.MEAN_TEACHER.WEIGHTS", path) for path in cfg.UDA.MEAN_TEACHER.WEIGHTS),
    ]
    for key, path in (
        *(named if not goes_on else ()),
        ("MODEL.BACKBONE.PRETRAIN_PATH", cfg.MODEL.BACKBONE.PRETRAIN_PATH),
    ):
        if path and not os.path.isfile(path):
            raise UserError(f"{key} is {path!r}, but there is no such file.")
    if eval_only and not cfg.MODEL.WEIGHTS:
        raise UserError(
            "MODEL.WEIGHTS is empty, but --eval-only needs a network; add MODEL.WEIGHTS PATH."
        )
    if eval_only and not cfg.DATASETS.TESTS:
        raise UserError("DATASETS.TESTS is empty, but --eval-only needs a test set.")
    files = [] if goes_on else network_files(cfg)
    _check_network(cfg, files, cfg.TEST.VIEWS if eval_only else ())
    check_datasets(cfg, eval_only)


def _check_names(cfg: Any) -> None:
    unusable = ("Optimizer", "LBFGS", "SparseAdam")  # no steps, closures, sparse gradients
    optimizers = [name for name in dir(torch.optim) if name[0].isupper() and name not in unusable]
    for key, values, known in (
        ("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY._obj_map),
        ("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, BACKBONE_REGISTRY._obj_map),
        ("MODEL.HEADS.NAME", cfg.MODEL.HEADS.NAME, REID_HEADS_REGISTRY._obj_map),
        ("MODEL.LOSSES.NAME", cfg.MODEL.LOSSES.NAME, LOSSES),
        ("MODEL.LOSSES.PARTS.NAME", cfg.MODEL.LOSSES.PARTS.NAME, LOSSES),
        ("MODEL.LOSSES.WEIGHTED", cfg.MODEL.LOSSES.WEIGHTED, LOSSES),
        ("SOLVER.OPT", cfg.SOLVER.OPT, optimizers),
        ("SOLVER.SCHED", cfg.SOLVER.SCHED, [s for s in SCHEDULES if s == EPOCH_SCHEDULE
                                            or hasattr(lr_scheduler, s)]),
        ("DATALOADER.SAMPLER_TRAIN", cfg.DATALOADER.SAMPLER_TRAIN, SAMPLERS),
        ("TEST.METRIC", cfg.TEST.METRIC, METRICS),
        ("DATASETS.NAMES", cfg.DATASETS.NAMES, DATASET_REGISTRY._obj_map),
        ("UDA.TARGET", cfg.UDA.TARGET, DATASET_REGISTRY._obj_map),
        ("DATASETS.TESTS", cfg.DATASETS.TESTS, DATASET_REGISTRY._obj_map),
    ):  # fmt: skip
        _check_known(key, [values] if isinstance(values, str) else values, known)
    _check_device(cfg.MODEL.DEVICE)


def _check_device(name: str) -> None:
    """The GPU is there; what may stand in the key has been checked with the config."""
    device, gpus = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UserError(
            f"MODEL.DEVICE is {name!r}, but this machine has {gpus} GPU(s), numbered from 0; "
            "choose one of them, or cpu."
        )


def _check_network(cfg: Any, paths: Sequence[str] = (), tested: Sequence[str] = ()) -> None:
    """The network can be built, and files can be loaded into it, as `load_weights` would."""
    bare = cfg.clone()
    bare.defrost()
    bare.MODEL.BACKBONE.PRETRAIN, bare.MODEL.DEVICE = False, "cpu"
    if not paths:
        bare.UDA.MEAN_TEACHER.ENABLED = False  # all students are alike
    with seeded(0):  # the run's random numbers stay what they are
        network: Any = build_network(bare)
    _check_feature_dim(cfg, copy.deepcopy(network.students[0].backbone))
    if paths:
        with said_later():
            load_weights(network, paths, tested)


def _check_feature_dim(cfg: Any, backbone: torch.nn.Module) -> None:
    """MODEL.BACKBONE.FEAT_DIM is what the backbone gives."""
    try:  # shapes alone, without values: no time and no memory
        with torch.no_grad():
            size = tuple(cfg.INPUT.SIZE_TEST)
            map_ = backbone.to("meta").eval()(torch.zeros(1, 3, *size, device="meta"))
    except Exception:  # a backbone that looks at values; the run will tell
        return
    if map_.shape[1] != cfg.MODEL.BACKBONE.FEAT_DIM:
        raise UserError(
            f"MODEL.BACKBONE.FEAT_DIM is {cfg.MODEL.BACKBONE.FEAT_DIM}, but "
            f"{cfg.MODEL.BACKBONE.NAME} {cfg.MODEL.BACKBONE.DEPTH} gives {map_.shape[1]} channels; "
            f"set it to {map_.shape[1]}."
        )


def _check_views(cfg: Any) -> None:
    """The head can take new classes and has the views that are tested."""
    check_head(REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME))
    if not cfg.TEST.VIEWS:
        raise UserError("TEST.VIEWS is empty, but a test needs a view, e.g. \"('global',)\".")
    _check_known("TEST.VIEWS", cfg.TEST.VIEWS, view_names(cfg))
    for name in RESERVED.intersection(view_names(cfg)):
        raise UserError(
            f"MODEL.HEADS.PARTS.NAMES has '{name}', which means something else in files and "
            "reports; choose another name."
        )


def _check_labeler(cfg: Any) -> None:
    """The network gives the views and the extras that the refiners ask for."""
    labeler = build_labeler(cfg)
    labeler.check_views(view_names(cfg))
    for refiner in labeler.refiners if not cfg.UDA.MEAN_TEACHER.ENABLED else ():
        if STUDENT in getattr(refiner, "extras", ()):
            key = getattr(refiner, "extras_key", "UDA.REFINERS")
            raise UserError(
                f"{type(refiner).__name__} compares the features of student and teacher, but "
                f"UDA.MEAN_TEACHER.ENABLED is False; enable it, or change {key}."
            )


def view_names(cfg: Any) -> tuple[str, ...]:
    """The views of the network that a config describes, the global one first."""
    return REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME).view_names(cfg)


def _check_losses(cfg: Any, stage: str) -> None:
    """The losses can be built; the network, teacher and weights that they look at are there."""
    for name in cfg.MODEL.LOSSES.WEIGHTED:
        weighted: Any = LOSSES.get(name)
        if not weighted.uses_weights:
            raise UserError(
                f"MODEL.LOSSES.WEIGHTED has {name}, which knows no weights of images; remove it."
            )
    head = REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME)
    check_head(head)
    wanted = [losses_of(view, cfg.MODEL.LOSSES) for view in view_names(cfg)]
    losses = [build_losses(names, cfg.MODEL.LOSSES) for names in wanted]
    for name, loss in (item for group in losses for item in group.items()):
        if not set(loss.reads) <= set(head.outputs):
            raise UserError(
                f"MODEL.LOSSES.NAME has {name}, which reads {', '.join(loss.reads)}, but "
                f"MODEL.HEADS.NAME is {cfg.MODEL.HEADS.NAME}, which does not give that; set it to "
                f"{' or '.join(heads_that_give(loss.reads))}, or change MODEL.LOSSES.NAME."
            )
        if stage != "adapt" and isinstance(loss, ClassMemory) and loss.starts_from:
            raise UserError(
                f"MODEL.LOSSES.NAME has {name}, whose table starts from the features of each "
                f"round, but stage '{stage}' has no rounds; change MODEL.LOSSES.NAME in the "
                "source recipe (UDA.SOURCE.CONFIG)."
            )
        if loss.needs_teacher and not cfg.UDA.MEAN_TEACHER.ENABLED:
            where = "UDA.MEAN_TEACHER.ENABLED is False" if stage == "adapt" else (
                f"stage '{stage}' has no teacher")  # fmt: skip
            raise UserError(
                f"MODEL.LOSSES.NAME has {name}, which learns from a mean teacher, but {where}; "
                "change MODEL.LOSSES.NAME of the config or of its source recipe, or enable it."
            )
    if cfg.UDA.FREEZE_EPOCHS and not any(uses_classifier(group.values()) for group in losses):
        raise UserError(
            f"UDA.FREEZE_EPOCHS is {cfg.UDA.FREEZE_EPOCHS}, but then only the classifier trains, "
            f"which no loss in MODEL.LOSSES.NAME {tuple(cfg.MODEL.LOSSES.NAME)} reads; set it to "
            "0, or add CrossEntropyLoss."
        )


def _check_known(key: str, values: Iterable[str], known: Iterable[str]) -> None:
    for value in values:
        if value not in known:
            names = ", ".join(sorted(known))
            raise UserError(f"{key} is {value!r}, but the known names are: {names}.")
