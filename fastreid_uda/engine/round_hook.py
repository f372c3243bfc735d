"""Ends epochs and rounds: evaluation and the record of the round."""

from __future__ import annotations

import time

from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from ..memory import peak_rss_mb
from .checkpointing import BEST
from .summary import best_teacher


class RoundHook(HookBase):
    """Evaluates and records, in this order.

    `TEST.EVAL_PERIOD` counts epochs, as in fast-reid (0: never). The last epoch of a run, and of a
    round of several epochs, is always evaluated, unless the period is 0.

    The record says how long training and tests of the round took (`train_seconds`, `test_seconds`;
    of a round that was resumed, since then) and the most memory the process has had so far.
    """

    _began = _tested = 0.0  # a time; seconds of this round

    def before_epoch(self) -> None:
        """Called when the labels of a round are there."""
        if not self.trainer.epoch_in_round or not self._began:
            self._began, self._tested = time.perf_counter(), 0.0

    def after_epoch(self) -> None:
        """Called when all steps of the epoch are done."""
        trainer = self.trainer
        round_ends = trainer.epoch_in_round + 1 == trainer.epochs_per_round
        run_ends = trainer.epoch + 1 == trainer.max_epoch
        scores: dict[str, float] = {}
        period = trainer.cfg.TEST.EVAL_PERIOD
        long_round_ends = round_ends and trainer.epochs_per_round > 1
        if period > 0 and ((trainer.epoch + 1) % period == 0 or run_ends or long_round_ends):
            start = time.perf_counter()
            scores = trainer.evaluate(trainer.cfg, trainer.model)
            self._tested += time.perf_counter() - start
            if scores and comm.is_main_process():
                trainer.storage.put_scalars(**scores, smoothing_hint=False)
        if round_ends:
            self._record(scores)

    def _record(self, scores: dict[str, float]) -> None:
        """Add the finished round to the trainer's records."""
        trainer = self.trainer
        seconds = time.perf_counter() - self._began - self._tested
        record = {"round": trainer.round, **trainer.memory.pop("round", {}), **scores}
        record |= {"train_seconds": seconds, "test_seconds": self._tested}
        record |= {"peak_rss_mb": peak} if (peak := peak_rss_mb()) is not None else {}
        earlier = max((best_teacher(r)[0] for r in trainer.records), default=-1.0)
        trainer.records.append(record)
        if best_teacher(record)[0] > earlier:
            trainer.save(BEST)
        trainer.on_round_end(trainer.records)
