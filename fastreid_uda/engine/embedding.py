"""A network and images -> the feature of each image by which it is tested and searched."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fastreid.evaluation.evaluator import DatasetEvaluator, inference_on_dataset

from ..compiled import num_cores
from ..config_loading import load_config
from ..data.build import build_extraction_loader
from ..data.image_list import ImageList
from ..errors import UserError
from ..evaluation.evaluated_network import EvaluatedNetwork
from ..modeling.build import build_network
from .checkpointing import BEST, FINAL, LAST, PREVIOUS, first_readable
from .device import use_cpu_without_gpu
from .feature_extraction import ProgressLoader
from .from_weights import take_network_from_weights
from .run_features import load_run_config
from .weights import load_weights

_OF_A_FILE = (
    "MODEL.META_ARCHITECTURE", "UDABaseline", "MODEL.HEADS.NAME", "PseudoLabelHead",
    "MODEL.FROM_WEIGHTS", "True", "UDA.STAGES", "()",
)  # fmt: skip


def run_config(run: str, overrides: Sequence[Any] = ()) -> Any:
    """The config of a run's result network, alone; its file is in MODEL.WEIGHTS.

    The network after the last round, or if the run is still under way as it was last saved.

    Args:
        run: OUTPUT_DIR.
        overrides: KEY VALUE KEY VALUE ...

    Raises:
        UserError: the folder is of no run, or has no network yet.
    """
    cfg = load_run_config(run, overrides)
    saved = first_readable([os.path.join(run, name) for name in (FINAL, LAST, PREVIOUS)])
    if saved is None:
        other = f" ({BEST} is chosen by test labels: name it by --weights)"
        raise UserError(
            f"{run} holds neither {FINAL} nor {LAST}{other if _has(run, BEST) else ''}; wait until "
            "the run has saved one, or give another folder."
        )
    return _alone(cfg, saved)


def file_config(weights: str, config_file: str = "", overrides: Sequence[Any] = ()) -> Any:
    """The config of a checkpoint's network, taken from the file.

    Args:
        weights: the file.
        config_file: for what the file does not show; empty: fast-reid's defaults.
        overrides: KEY VALUE KEY VALUE ..., the last of all.

    Raises:
        UserError: the file is missing or damaged, or its network is not recognised.
    """
    base = list(_OF_A_FILE[4:] if config_file else _OF_A_FILE)
    cfg = load_config(config_file, [*base, "MODEL.WEIGHTS", weights, *overrides])
    take_network_from_weights(cfg)
    return _alone(cfg, cfg.MODEL.WEIGHTS)


def _has(run: str, name: str) -> bool:
    return os.path.isfile(os.path.join(run, name))


def _alone(cfg: Any, weights: str) -> Any:
    """One network without teachers, that needs no other file than its weights."""
    cfg.MODEL.WEIGHTS = os.path.abspath(weights)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.UDA.SOURCE.CONFIG = ""
    node = cfg.UDA.MEAN_TEACHER
    node.ENABLED, node.STUDENTS, node.WEIGHTS = False, 1, ()
    use_cpu_without_gpu(cfg)
    cfg.freeze()
    return cfg


def load_network(cfg: Any, teacher: int = 0) -> EvaluatedNetwork:
    """The network of a config with the weights of MODEL.WEIGHTS, as the evaluation sees it.

    Args:
        cfg: of `run_config` or `file_config`.
        teacher: which of the file's mean teachers, from 0.

    Raises:
        UserError: the file does not fit the config, or has no such teacher.
    """
    network = build_network(cfg)
    load_weights(network, [cfg.MODEL.WEIGHTS], tested=cfg.TEST.VIEWS, first=teacher)
    return EvaluatedNetwork(network.tested[0], cfg.TEST.VIEWS, cfg.TEST.ETA)


def embed(network: EvaluatedNetwork, images: ImageList, cfg: Any) -> np.ndarray:
    """(N, D) float32: the joined feature of TEST.VIEWS of each image, with TEST.FLIP as set.

    Raises:
        UserError: an image cannot be read, or a feature is not finite; names the first.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, num_cores())  # torch warns of more
    loader = ProgressLoader(build_extraction_loader(images, cfg), "features")
    logging.getLogger("fastreid.evaluation.evaluator").setLevel(logging.WARNING)
    features: np.ndarray = inference_on_dataset(
        network, loader, _Collector(), flip_test=cfg.TEST.FLIP.ENABLED
    )
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"{cfg.MODEL.WEIGHTS} gives features that are NaN or infinite for {len(bad)} of "
            f"{len(images)} image(s), first for {images.paths[bad[0]]}; take another checkpoint."
        )
    return features


class _Collector(DatasetEvaluator):
    """Keeps the features that fast-reid's evaluation would score."""

    def reset(self) -> None:
        self._parts: list[np.ndarray] = []

    def process(self, inputs: Any, outputs: torch.Tensor) -> None:
        self._parts.append(outputs.float().cpu().numpy())

    def evaluate(self) -> Any:
        return np.concatenate(self._parts)
