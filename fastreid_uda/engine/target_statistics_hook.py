"""Mixes the statistics of the target images into the batch norm layers of source training."""

from __future__ import annotations

from typing import Any

import torch
from fastreid.engine.train_loop import HookBase

from ..data.build import build_unlabeled_loader
from ..data.image_list import ImageList
from .seeding import derive_seed


class TargetStatisticsHook(HookBase):
    """Forwards a random batch of unlabelled target images before every step of source training.

    Its output is thrown away; its only effect is that the running statistics of batch norm become
    a mixture of both domains. No paper says so; the authors' code of MMT, SECRET
    (pretrain.py:104-108) and P2LR (trainers.py:38-40) does it, between the forward pass of the
    source batch and the optimiser's step; here it comes before the source batch.

    Args:
        images: of the target.
        cfg: complete config.
    """

    def __init__(self, images: ImageList, cfg: Any) -> None:
        self._images = images
        self._cfg = cfg

    def before_epoch(self) -> None:
        """Start a loader whose batches depend on seed and epoch alone."""
        trainer = self.trainer
        seed = derive_seed(self._cfg.UDA.SEED, trainer.stage, trainer.epoch, "target")
        loader = build_unlabeled_loader(
            self._images, self._cfg, num_batches=trainer.iters_per_epoch, seed=seed
        )
        self._batches = iter(loader)

    def before_step(self) -> None:
        """Forward one batch in training mode."""
        model = self.trainer.model
        with torch.autocast(model.device.type, enabled=self._cfg.SOLVER.AMP.ENABLED):
            model.update_statistics(next(self._batches))

    def after_epoch(self) -> None:
        """Close the loader."""
        self._batches = None
