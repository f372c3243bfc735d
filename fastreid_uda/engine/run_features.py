"""The features of a run that is over, or under way: its network as it was last saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import build_labeler
from ..config_loading import load_config
from ..data.build import build_extraction_loader, load_training_images
from ..errors import UserError
from ..labeling.types import FeatureSet
from ..modeling.build import build_network
from .checkpointing import FINAL, LAST, PREVIOUS, first_readable
from .device import use_cpu_without_gpu
from .feature_extraction import extract_features
from .weights import load_weights

CONFIG = "config.yaml"


def load_run_config(output_dir: str, overrides: Sequence[Any] = ()) -> Any:
    """The config of a run.

    Args:
        output_dir: its OUTPUT_DIR.
        overrides: KEY VALUE KEY VALUE ...

    Raises:
        UserError: the folder holds no config, or a value is not accepted.
    """
    path = os.path.join(output_dir, CONFIG)
    if not os.path.isfile(path):
        raise UserError(f"{output_dir} holds no {CONFIG}; give the OUTPUT_DIR of a run.")
    # Neither is needed again, and the recipe's file may have moved.
    settled = ["UDA.SOURCE.CONFIG", "", "MODEL.BACKBONE.PRETRAIN", "False"]
    return load_config(path, [*settled, *overrides])


def extract_run_features(
    output_dir: str, overrides: Sequence[Any] = ()
) -> tuple[FeatureSet, np.ndarray | None]:
    """The features of the target images by the network of a run's last checkpoint.

    Those that its next round would label; `UDA.TARGET` may name other images.

    Args:
        output_dir: of the run.
        overrides: of its config, KEY VALUE KEY VALUE ...

    Returns:
        All views and what the refiners ask for beside them, and the true identities if the data set
        has them.

    Raises:
        UserError: the run has no checkpoint, or its images are not there.
    """
    cfg = load_run_config(output_dir, overrides)
    use_cpu_without_gpu(cfg)
    saved = first_readable([os.path.join(output_dir, name) for name in (LAST, PREVIOUS, FINAL)])
    if saved is None:
        raise UserError(
            f"{output_dir} holds neither {LAST} nor {FINAL}; wait until the run has saved one, or "
            "give another folder."
        )
    images = load_training_images(cfg.UDA.TARGET, cfg)
    network = build_network(cfg)
    load_weights(network, [saved])
    loader = build_extraction_loader(images, cfg)
    return extract_features(network, loader, images, build_labeler(cfg).extras), images.identities
