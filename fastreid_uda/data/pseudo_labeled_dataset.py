"""All images of a domain in fixed order, of which the labelled ones are drawn for training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..labeling.types import OUTLIER, PseudoLabels, kept_in_all, weights_in_all
from .image_files import load_image
from .image_list import ImageList


class PseudoLabeledDataset(Dataset):
    """Images with the labels of the current round.

    The list of images never changes, so that an index is an image for the whole run; `relabel`
    replaces the labels, and the sampler draws from `kept` only.

    Args:
        images: the images in their fixed order.
        transform: of a PIL image to a float tensor (3, H, W) in [0, 255].
        draws: S, how often each image is transformed anew; random transforms give S augmentations.
    """

    def __init__(
        self, images: ImageList, transform: Callable[[Any], torch.Tensor], draws: int = 1
    ) -> None:
        self.images = images
        self.transform = transform
        self.draws = draws
        self._targets = np.zeros((0, len(images)), dtype=np.int64)
        self._weights = np.zeros(len(images), dtype=np.float32)
        self._trained = np.zeros(len(images), dtype=bool)

    def relabel(self, labels: Mapping[str, PseudoLabels]) -> None:
        """Replace the labels; an image is kept if it has a label in every view.

        Args:
            labels: view -> labels of all images, in the order of the list.
        """
        for view, view_labels in labels.items():
            if len(view_labels.labels) != len(self.images):
                raise ValueError(
                    f"View '{view}' labels {len(view_labels.labels)} images, but the data set has "
                    f"{len(self.images)}."
                )
        self._trained = kept_in_all(labels)
        self._targets = np.stack([part.labels for part in labels.values()])
        self._weights = weights_in_all(labels)

    @property
    def kept(self) -> np.ndarray:
        """Indices of the images that take part in training, ascending."""
        return np.flatnonzero(self._trained)

    @property
    def targets(self) -> np.ndarray:
        """(N,) int64 labels of the first view, -1 for images left out."""
        return np.where(self._trained, self._targets[0], OUTLIER)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """One image.

        Args:
            index: of the image, or (index, seed): the seed makes the augmentation of this draw the
                same in whichever worker process it happens.

        Returns:
            `images` (3, H, W), or (S, 3, H, W) with S > 1 draws, `img_paths`, `camids` (-1 if
            unknown), `indices`, and for a labelled image `targets` (one label, or one per view) and
            `weights`.
        """
        index, seed = index if isinstance(index, tuple) else (index, None)
        image = load_image(self.images.paths[index])
        with seeded(seed):
            pixels = [self.transform(image) for _ in range(self.draws)]
        cameras = self.images.camera_ids
        sample = {
            "images": pixels[0] if self.draws == 1 else torch.stack(pixels),
            "camids": -1 if cameras is None else int(cameras[index]),
            "img_paths": self.images.paths[index],
            "indices": index,
        }
        if len(self._targets):
            labels = self._targets[:, index]
            if not self._trained[index]:
                raise ValueError(f"Image {index} is an outlier of this round and cannot be drawn.")
            # Plain ints: fast-reid's collator returns None for NumPy integers.
            sample["targets"] = int(labels[0]) if len(labels) == 1 else torch.tensor(labels)
            sample["weights"] = float(self._weights[index])
        return sample


class ImageDataset(Dataset):
    """Images in a fixed order, without labels or with those of a test set.

    Args:
        items: (path, identity, camera) of each image.
        transform: of a PIL image to a float tensor (3, H, W) in [0, 255].
    """

    def __init__(self, items: list[tuple[str, int, int]], transform: Callable) -> None:
        self.items = items
        self.transform = transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`images`, `targets` (identity), `camids` and `img_paths` of one image."""
        path, identity, camera = self.items[index]
        pixels = self.transform(load_image(path))
        return {
            "images": pixels,
            "targets": int(identity),
            "camids": int(camera),
            "img_paths": path,
        }


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Run a block with all random number generators seeded, and put their states back.

    Augmentations draw from the global generators of Python, NumPy and torch. Seeding them per draw
    makes a batch depend on the run's seed, epoch and position alone: not on the number of worker
    processes, and not on what was drawn before a run was stopped and resumed.
    """
    if seed is None:
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
