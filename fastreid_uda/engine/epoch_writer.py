"""Writes the scalars of a run at the end of each epoch."""

from __future__ import annotations

import json
import os

from fastreid.engine.hooks import PeriodicWriter

METRICS = "metrics.json"
"""One line of scalars for each iteration that is written down."""


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


def cut_metrics(output_dir: str, iteration: int) -> None:
    """Remove what an interrupted run has written of iterations that will be done again.

    Args:
        output_dir: of the run; nothing happens if it has no `METRICS`.
        iteration: the first one to be done again. It and all that follow go, and a line that the
            kill has cut off.
    """
    path = os.path.join(output_dir, METRICS)
    if not os.path.isfile(path):
        return
    # Shortened in place: the writer has the file open already. One call, so a kill leaves no half.
    with open(path, "r+b") as file:
        kept = 0
        for line in file:
            if not line.endswith(b"\n") or _iteration_of(line) >= iteration:
                break
            kept += len(line)
        file.truncate(kept)


def _iteration_of(line: bytes) -> float:
    """The iteration of a line; infinity if it is none of ours."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
