"""Training batches as a function of the labels and a seed: finite, repeatable, never hanging.

fast-reid's identity samplers loop for ever when there are fewer identities than a batch needs
(triplet_sampler.py:84) and reseed NumPy's global generator; these do neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ...errors import UserError

logger = logging.getLogger(__name__)

SAMPLERS = ("BalancedIdentitySampler", "NaiveIdentitySampler", "TrainingSampler")
"""The known values of `DATALOADER.SAMPLER_TRAIN`: fast-reid's names."""

Draw = tuple[int, int]
"""Index of an image, and the seed of its augmentation."""


class IdentityBatchSampler(Sampler):
    """P identities with K images each (PK sampling).

    One pass visits all identities in random order. An identity gives one random image and K - 1
    images of other cameras; of any camera, if it was seen by one alone or `across_cameras` is
    False; with replacement only if there are too few. An identity with a single image repeats it,
    so that a batch is always made of groups of K. With fewer than P identities a batch has all of
    them and is smaller.

    This is the "random multiple gallery sampler" of the MMT family, with two deviations: there, an
    identity with a single image gives a single index, which shifts all later groups, and images are
    drawn with replacement also where there are exactly K - 1 others.

    Args:
        targets: (N,) labels; images with -1 are never drawn.
        camera_ids: (N,) or None, if unknown.
        batch_size: P * K over all processes.
        images_per_identity: K.
        num_batches: length of the epoch.
        seed: of everything random.
        across_cameras: prefer images of other cameras than the first one's.
        rank: of this process; every process draws the same batch and takes its share.
        world_size: number of processes.
    """

    def __init__(
        self,
        targets: np.ndarray,
        camera_ids: np.ndarray | None,
        *,
        batch_size: int,
        images_per_identity: int,
        num_batches: int,
        seed: int,
        across_cameras: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        kept = np.flatnonzero(targets >= 0)
        order = kept[np.argsort(targets[kept], kind="stable")]
        starts = np.flatnonzero(np.diff(targets[order], prepend=-1))
        self._images_of = np.split(order, starts[1:])
        self._camera_ids = camera_ids if across_cameras else None
        self._images_per_identity = images_per_identity
        wanted = batch_size // images_per_identity
        self._identities_per_batch = min(wanted, len(self._images_of))
        check_shares(self._identities_per_batch * images_per_identity, world_size)
        self._num_batches = num_batches
        self._seed = seed
        self._rank, self._world_size = rank, world_size

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        """Batches of this process."""
        rng = np.random.default_rng(self._seed)
        queue: list[int] = []
        for _ in range(self._num_batches):
            if len(queue) < self._identities_per_batch:
                # The rest of the last pass is left out, so that a batch has P different identities.
                queue = rng.permutation(len(self._images_of)).tolist()
            chosen = queue[: self._identities_per_batch]
            del queue[: self._identities_per_batch]
            batch = np.concatenate([self._draw(identity, rng) for identity in chosen])
            seeds = rng.integers(2**31, size=len(batch))
            own = share_of(self._rank, self._world_size, len(batch))
            yield list(zip(batch[own].tolist(), seeds[own].tolist(), strict=True))

    def _draw(self, identity: int, rng: np.random.Generator) -> np.ndarray:
        """K image indices of one identity."""
        images = self._images_of[identity]
        wanted = self._images_per_identity - 1
        first = rng.choice(images)
        others = images[images != first]
        if self._camera_ids is not None:
            elsewhere = others[self._camera_ids[others] != self._camera_ids[first]]
            others = elsewhere if len(elsewhere) else others
        if not len(others):
            others = np.array([first])
        rest = rng.choice(others, size=wanted, replace=len(others) < wanted)
        return np.concatenate([[first], rest])


class RandomBatchSampler(Sampler):
    """Batches of a random permutation of all labelled images, begun anew when it is used up.

    Args:
        targets: (N,) labels; images with -1 are never drawn.
        batch_size: over all processes.
        num_batches: length of the epoch.
        seed: of everything random.
        rank: of this process, which takes its share of each batch.
        world_size: number of processes.
    """

    def __init__(
        self,
        targets: np.ndarray,
        *,
        batch_size: int,
        num_batches: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._kept = np.flatnonzero(targets >= 0)
        self._batch_size = batch_size
        check_shares(batch_size, world_size)
        self._num_batches = num_batches
        self._seed = seed
        self._rank, self._world_size = rank, world_size

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        """Batches of this process."""
        rng = np.random.default_rng(self._seed)
        queue: list[int] = []
        for _ in range(self._num_batches):
            while len(queue) < self._batch_size:
                queue.extend(rng.permutation(self._kept).tolist())
            batch, queue = queue[: self._batch_size], queue[self._batch_size :]
            seeds = rng.integers(2**31, size=len(batch)).tolist()
            own = share_of(self._rank, self._world_size, len(batch))
            yield list(zip(batch[own], seeds[own], strict=True))


def share_of(rank: int, world_size: int, batch_size: int) -> slice:
    """The images of a batch that a process forwards; all processes together forward all."""
    return slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)


def check_shares(images: int, world_size: int) -> None:
    """Raise a `UserError` if a process would be left without an image of a batch or a list."""
    if images < world_size:
        raise UserError(
            f"There are {images} images for {world_size} processes; take fewer processes "
            "(--num-gpus), or set SOLVER.IMS_PER_BATCH higher if it is less."
        )


def build_batch_sampler(
    name: str,
    targets: np.ndarray,
    camera_ids: np.ndarray | None,
    *,
    images_per_identity: int,
    **arguments: int,
) -> Sampler:
    """The sampler that `DATALOADER.SAMPLER_TRAIN` names, under fast-reid's names.

    Args:
        name: `BalancedIdentitySampler`: PK across cameras; `NaiveIdentitySampler`: PK whatever the
            cameras; `TrainingSampler`: random images.
        targets: (N,) labels, -1 for images left out.
        camera_ids: (N,) or None.
        images_per_identity: K.
        **arguments: batch_size, num_batches, seed, rank, world_size.
    """
    if name == "TrainingSampler":
        return RandomBatchSampler(targets, **arguments)
    if name in ("BalancedIdentitySampler", "NaiveIdentitySampler"):
        return IdentityBatchSampler(
            targets,
            camera_ids,
            images_per_identity=images_per_identity,
            across_cameras=name == "BalancedIdentitySampler",
            **arguments,
        )
    raise UserError(
        f"DATALOADER.SAMPLER_TRAIN is {name!r}, but the known names are: BalancedIdentitySampler, "
        "NaiveIdentitySampler, TrainingSampler."
    )
