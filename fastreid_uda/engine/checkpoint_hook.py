"""Saves the run: what `--resume` needs, and the network at the end."""

from __future__ import annotations

from fastreid.engine.train_loop import HookBase

from ..distributed import wait_for_main
from .checkpointing import FINAL, LAST


class CheckpointHook(HookBase):
    """Writes a checkpoint every `SOLVER.CHECKPOINT_PERIOD` epochs and at the end of every round.

    It comes after the hooks that write down what an epoch has found, so that nothing of an epoch
    that is in the checkpoint is missing from metrics.json or summary.json.
    """

    def after_epoch(self) -> None:
        """Called when all other hooks have ended the epoch."""
        trainer = self.trainer
        round_ends = trainer.epoch_in_round + 1 == trainer.epochs_per_round
        if round_ends or (trainer.epoch + 1) % trainer.cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            trainer.save(LAST)
        wait_for_main()

    def after_train(self) -> None:
        """Save the network as the result of the stage, if the stage came to its end."""
        trainer = self.trainer
        if trainer.is_over and trainer.records:
            trainer.save(FINAL)
            wait_for_main()  # the other processes read it next
