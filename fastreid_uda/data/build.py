"""Data sets and loaders from a config; on a CPU and on a GPU."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils import comm
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from ..errors import UserError
from .image_list import ImageList, make_image_list
from .pseudo_labeled_dataset import ImageDataset, PseudoLabeledDataset
from .samplers import build_batch_sampler
from .samplers.batch_samplers import RandomBatchSampler, check_shares, share_of
from .transforms import build_transforms

logger = logging.getLogger(__name__)


def datasets_root() -> str:
    """The folder of all data sets: the environment variable FASTREID_DATASETS, or `datasets`."""
    return os.getenv("FASTREID_DATASETS", "datasets")


_read: dict[tuple, Any] = {}


def forget_datasets() -> None:
    """Read every list anew from now on: called where a run begins, which reads each list once."""
    _read.clear()


def load_dataset(name: str, cfg: Any, combineall: bool = False) -> Any:
    """A data set of fast-reid's registry, with its lists `train`, `query` and `gallery`.

    The lists are kept until `forget_datasets`: a file that comes or goes during a run changes none
    of its positions.

    Args:
        name: in the registry.
        cfg: `DATASETS.FOLDER`.
        combineall: add the test images to the training images (a source, never a target).

    Raises:
        UserError: the name is not registered, or the files are not there.
    """
    if name not in DATASET_REGISTRY._obj_map:
        known = ", ".join(sorted(DATASET_REGISTRY._obj_map))
        raise UserError(f"Data set {name!r} is not registered; the known names are: {known}.")
    cls = DATASET_REGISTRY.get(name)
    key = (cls, os.path.abspath(datasets_root()), str(cfg.DATASETS.FOLDER), combineall)
    if key not in _read:
        _read[key] = _read_dataset(name, cls, cfg, combineall)
    return _read[key]


def _read_dataset(name: str, cls: Any, cfg: Any, combineall: bool) -> Any:
    try:
        with warnings.catch_warnings():
            # What fast-reid's Market1501 says where its folder is missing; the error says more.
            warnings.filterwarnings("ignore", message="The current data structure is deprecated")
            if hasattr(cls, "from_config"):
                dataset = cls.from_config(cfg)
            else:
                dataset = cls(root=datasets_root(), combineall=combineall)
            # fast-reid reads some lists only when they are first asked for.
            _ = dataset.train, dataset.query, dataset.gallery
    except UserError:
        raise
    except (
        RuntimeError,
        AssertionError,
        OSError,
        AttributeError,
        ValueError,
        LookupError,
    ) as error:
        root = os.path.abspath(datasets_root())
        own = _FOLDERS.get(name) or getattr(cls, "dataset_dir", "") or "fast-reid's layout"
        raise UserError(
            f"Data set {name} cannot be read ({_one_line(error)}); put its files into {root} "
            f"({own} there), or set the environment variable FASTREID_DATASETS to their folder."
        ) from error
    return dataset


_FOLDERS = {"Market1501": "Market-1501-v15.09.15"}
"""Where files belong that fast-reid looks for elsewhere if the folder is missing."""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def load_training_images(names: Sequence[str], cfg: Any, combineall: bool = False) -> ImageList:
    """The training images of one or more data sets in one path-sorted list.

    A data set whose class says `has_cameras = False`, as VehicleID's, has camera ids that are none:
    the cameras of its images are unknown, and of all images that are in a list with them.
    """
    datasets = {name: load_dataset(name, cfg, combineall) for name in names}
    items = [item for name in names for item in datasets[name].train]
    without = [name for name in names if not getattr(datasets[name], "has_cameras", True)]
    if without:
        items = [(path, identity, None) for path, identity, _ in items]
    if 0 < len(without) < len(names):
        logger.warning(
            "The cameras of %s are not used, because %s, trained on beside it, has none.",
            "+".join(name for name in names if name not in without), "+".join(without),
        )  # fmt: skip
    images = make_image_list(items, "+".join(names))
    identities, cameras = (
        "unknown" if ids is None else len(np.unique(ids))
        for ids in (images.identities, images.camera_ids)
    )
    logger.info(
        "Training images of %s: %d; identities: %s, cameras: %s.",
        "+".join(names), len(images), identities, cameras,
    )  # fmt: skip
    return images


def build_train_loader(
    dataset: PseudoLabeledDataset, cfg: Any, *, num_batches: int, seed: int
) -> DataLoader:
    """One epoch of training batches of the labelled images.

    Args:
        dataset: with the labels of the round.
        cfg: `DATALOADER` and `SOLVER.IMS_PER_BATCH`, which counts the images of all processes.
        num_batches: length of the epoch.
        seed: of the draws and their augmentation.
    """
    sampler = build_batch_sampler(
        cfg.DATALOADER.SAMPLER_TRAIN,
        dataset.targets,
        dataset.images.camera_ids,
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        images_per_identity=cfg.DATALOADER.NUM_INSTANCE,
        num_batches=num_batches,
        seed=seed,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    return _loader(dataset, sampler, cfg)


def build_unlabeled_loader(
    images: ImageList, cfg: Any, *, num_batches: int, seed: int
) -> DataLoader:
    """One epoch of random batches of augmented images without labels.

    Args:
        images: to draw from.
        cfg: `INPUT` and `SOLVER.IMS_PER_BATCH`, which counts the images of all processes.
        num_batches: length of the epoch.
        seed: of the draws and their augmentation.
    """
    sampler = RandomBatchSampler(
        np.zeros(len(images)),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        num_batches=num_batches,
        seed=seed,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    dataset = PseudoLabeledDataset(images, build_transforms(cfg, is_train=True))
    return _loader(dataset, sampler, cfg)


def build_extraction_loader(images: ImageList, cfg: Any) -> DataLoader:
    """All images once, in the order of the list, without augmentation; a share per process."""
    dataset = PseudoLabeledDataset(images, build_transforms(cfg, is_train=False))
    return _loader(dataset, _InOrder(len(images), cfg.TEST.IMS_PER_BATCH), cfg)


def load_test_set(name: str, cfg: Any) -> Any:
    """A data set with query and gallery images; a `UserError` if it lacks one of them."""
    dataset = load_dataset(name, cfg)
    if not (dataset.query and dataset.gallery):
        raise UserError(
            f"Data set {name} has {len(dataset.query)} query and {len(dataset.gallery)} gallery "
            "images, but a score needs both; remove it from DATASETS.TESTS."
        )
    return dataset


def build_test_loader(name: str, cfg: Any) -> tuple[DataLoader, int]:
    """Query and gallery of a data set, query first, and the number of queries."""
    dataset = load_test_set(name, cfg)
    items = ImageDataset([*dataset.query, *dataset.gallery], build_transforms(cfg, is_train=False))
    return _loader(items, _InOrder(len(items), cfg.TEST.IMS_PER_BATCH), cfg), len(dataset.query)


def gallery_draws(name: str, cfg: Any) -> int:
    """How many galleries of a test set are drawn and scored; 0: it comes with query and gallery.

    Of a data set whose class says `gallery_is_drawn = True`, as VehicleID's, one random image of
    each identity is the gallery, and all others are queries.
    """
    drawn = getattr(load_test_set(name, cfg), "gallery_is_drawn", False)
    return cfg.TEST.GALLERY_DRAWS if drawn else 0


class _InOrder(BatchSampler):
    """Contiguous batches of the share of this process."""

    def __init__(self, size: int, batch_size: int) -> None:
        processes = comm.get_world_size()
        check_shares(size, processes)
        own = share_of(comm.get_rank(), processes, size)
        share = max(1, batch_size // processes)
        super().__init__(range(own.start, own.stop), share, drop_last=False)


def _loader(dataset: Dataset, batch_sampler: Sampler, cfg: Any) -> DataLoader:
    # torch's own loader: fast-reid's DataLoaderX prefetches ten batches in a thread that outlives
    # the round, so that images with last round's labels would still be queued after a relabel.
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=torch.cuda.is_available() and cfg.MODEL.DEVICE.startswith("cuda"),
    )
