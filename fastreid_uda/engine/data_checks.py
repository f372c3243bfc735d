"""The data sets of a run, looked at before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from ..config import build_labeler
from ..config_loading import source_config
from ..data.build import forget_datasets, load_test_set, load_training_images
from ..data.image_files import check_images
from ..distributed import on_main_process
from ..errors import UserError


def check_datasets(cfg: Any, eval_only: bool) -> None:
    """The data sets are there, and their files are images; each list is read once for the run.

    Raises:
        UserError: a data set or a file of it cannot be read, or lacks what the stages need.
    """
    forget_datasets()
    stages = () if eval_only else cfg.UDA.STAGES
    paths: list[str] = []
    if "source" in stages and not cfg.MODEL.WEIGHTS:
        if not cfg.DATASETS.NAMES:
            raise UserError(
                "DATASETS.NAMES is empty, but the stage source trains on it; name a data set, or "
                "give a network by MODEL.WEIGHTS."
            )
        paths += load_training_images(cfg.DATASETS.NAMES, cfg, cfg.DATASETS.COMBINEALL).paths
    if {"adapt", "supervised"} & set(stages) or _reads_target_in_source(cfg, stages):
        images = load_training_images(cfg.UDA.TARGET, cfg)
        paths += images.paths
        if "adapt" in stages:
            build_labeler(cfg).check_cameras(images.camera_ids)
    for name in cfg.DATASETS.TESTS:
        dataset = load_test_set(name, cfg)
        paths += [item[0] for item in (*dataset.query, *dataset.gallery)]
    on_main_process(partial(check_images, dict.fromkeys(paths)))


def _reads_target_in_source(cfg: Any, stages: Iterable[str]) -> bool:
    trains = "source" in stages and not cfg.MODEL.WEIGHTS
    return trains and source_config(cfg, "source").UDA.SOURCE.TARGET_BN
