"""Images to compare networks on: the run's own where they are there, else drawn pedestrians."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..data.build import datasets_root, load_dataset
from ..data.datasets.pedestrian_cameras import STYLES, make_camera, photograph
from ..data.datasets.pedestrian_people import sample_people
from ..data.image_files import load_image
from ..data.transforms import build_transforms
from ..errors import UserError

logger = logging.getLogger(__name__)

DRAWN = "drawn pedestrians"


def images_to_check(cfg: Any, number: int) -> tuple[torch.Tensor, str]:
    """Images as the network sees them in a test, but for the normalisation.

    Args:
        cfg: of the run; its test sets, its target and its source are looked for in this order.
        number: of images.

    Returns:
        (number, 3, H, W) float32 RGB, 0..255, and what they are.
    """
    transform = build_transforms(cfg, is_train=False)
    for name in dict.fromkeys((*cfg.DATASETS.TESTS, *cfg.UDA.TARGET, *cfg.DATASETS.NAMES)):
        images = list(_images_of(name, cfg, number))
        if len(images) == number:
            return torch.stack([transform(image) for image in images]), f"images of {name}"
    return torch.stack([transform(image) for image in drawn_pedestrians(number)]), DRAWN


def _images_of(name: str, cfg: Any, number: int) -> Iterator[Any]:
    """Images from all over a data set; none if it is not there, fewer if some are damaged."""
    if not os.path.isdir(datasets_root()) and name != "PersonFolder":
        return
    try:
        dataset = load_dataset(name, cfg)
        items = [*dataset.query, *dataset.gallery] or dataset.train
        for n in range(number if items else 0):
            yield load_image(items[n * len(items) // number][0])
    except UserError as error:
        logger.debug("%s is not compared on: %s", name, error)


def drawn_pedestrians(number: int) -> list[Any]:
    """RGB images of the synthetic target domain, the same ones every time."""
    style = STYLES["target"]
    people = sample_people(np.random.default_rng(0), style.fashion, number)
    camera = make_camera(np.random.default_rng(1), style, 0)
    return [
        photograph(person, camera, style, np.random.default_rng([2, n]), people[n - 1])
        for n, person in enumerate(people)
    ]
