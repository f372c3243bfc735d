"""Writes the scalars of a run at the end of each epoch."""

from __future__ import annotations

from fastreid.engine.hooks import PeriodicWriter


class EpochWriter(PeriodicWriter):
    """Writes once per epoch and every `period` iterations in between.

    fast-reid's hook also writes after the last iteration and then again after the epoch; its
    printer divides by the iterations in between, which are none.
    """

    def after_step(self) -> None:
        """Write if the period has passed."""
        done = self.trainer.iter_in_round + 1
        if done % self._period == 0 and done % self.trainer.iters_per_epoch:
            for writer in self._writers:
                writer.write()
