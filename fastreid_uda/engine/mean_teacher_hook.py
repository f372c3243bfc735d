"""Moves the mean teachers after each step."""

from __future__ import annotations

from fastreid.engine.train_loop import HookBase


class MeanTeacherHook(HookBase):
    """Averages the students into their teachers.

    The step is the trainer's count of all rounds, which a resumed run continues, so that the
    warm-up of the average never begins anew.
    """

    def after_step(self) -> None:
        """Called after the optimiser's step."""
        self.trainer.model.update_teachers(self.trainer.iter)
