"""Trains only the classifier in the first epochs of each round."""

from __future__ import annotations

from fastreid.engine.train_loop import HookBase
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


class FreezeHook(HookBase):
    """Freezes everything but the classifier for the first epochs of a round.

    MSPLR, section 3.6.2: "freezing the body of our model for 20 epochs and let the last fully
    connected layer learn a good enough p". The layers of the frozen body that keep statistics are
    in eval mode, so that they do not drift.

    Args:
        epochs: number of frozen epochs; 0: never.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._frozen: list[nn.Parameter] = []

    def before_epoch(self) -> None:
        """Freeze the body; the trainer has put the network into training mode just before."""
        trainer = self.trainer
        if trainer.stop_reason or trainer.epoch_in_round >= self._epochs:
            return
        trained = {id(parameter) for parameter in trainer.model.classifiers().values()}
        self._frozen = [
            parameter
            for parameter in trainer.model.parameters()
            if parameter.requires_grad and id(parameter) not in trained
        ]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        for module in trainer.model.modules():
            if isinstance(module, _NormBase):
                module.eval()
        trainer.wrap_model()

    def after_epoch(self) -> None:
        """Unfreeze, so that whatever follows finds the network as it was."""
        if self._frozen:
            for parameter in self._frozen:
                parameter.requires_grad_(True)
            self._frozen = []
            self.trainer.wrap_model()
