"""The moments at which a run may be killed: they are counted, and one of them is the last."""

import contextlib
import json
import os
import signal
from collections import Counter

import torch

from fastreid_uda.engine import checkpointing
from fastreid_uda.engine.feature_extraction import ProgressLoader
from fastreid_uda.engine.trainer import UDATrainer
from fastreid_uda.labeling.pipeline import StageClock

BLOCK = 1 << 16
"""Bytes of a checkpoint between two moments."""


class Moments:
    """Counts the moments of this process by name, "<stage>/<kind>", and kills it at one of them.

    Args:
        board: memory that the parent can read: the last moment as JSON.
        kill_at: (name, number from 1) of the moment to die at; None: count alone.
    """

    def __init__(self, board, kill_at):
        self._board, self._kill_at = board, kill_at
        self.counts, self.trainer = Counter(), None

    def passed(self, kind):
        name = f"{self.trainer.stage if self.trainer else 'start'}/{kind}"
        self.counts[name] += 1
        self._write(moment=name, number=self.counts[name])
        if self._kill_at == (name, self.counts[name]):
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self):
        self._write(moment="the end", number=0)

    def _write(self, **entries):
        epoch = self.trainer.epoch if self.trainer else 0
        text = json.dumps({**entries, "epoch": epoch, "counts": self.counts}).encode()
        self._board[: len(text) + 1] = text + b"\n"

    def install(self):
        """Let the product's functions, in this process alone, report what they are about to do."""
        self._follow_trainers()
        self._before(torch.Tensor, "backward", "epoch: before backward")
        self._before(UDATrainer, "after_step", "epoch: between optimiser and teacher")
        self._before(StageClock, "stage", "labeling")
        self._before_each_batch()
        self._in_checkpoints()

    def _before(self, owner, name, kind):
        original = getattr(owner, name)

        def reporting(*arguments, **named):
            self.passed(kind)
            return original(*arguments, **named)

        setattr(owner, name, reporting)

    def _follow_trainers(self):
        build = UDATrainer.__init__

        def reporting(trainer, cfg, *arguments, **named):
            build(trainer, cfg, *arguments, **named)
            self.trainer = trainer

        UDATrainer.__init__ = reporting

    def _before_each_batch(self):
        batches = ProgressLoader.__iter__

        def reporting(loader):
            for batch in batches(loader):
                self.passed("extraction" if loader._title == "features" else "evaluation")
                yield batch

        ProgressLoader.__iter__ = reporting

    def _in_checkpoints(self):
        write, replace = checkpointing.atomic_write, os.replace

        @contextlib.contextmanager
        def reporting_write(*arguments):
            with write(*arguments) as file:
                yield _ReportingFile(file, lambda: self.passed("checkpoint: write"))

        def reporting_replace(source, target):
            if str(target).endswith(".pth"):
                self.passed("checkpoint: rename")
            replace(source, target)

        checkpointing.atomic_write, os.replace = reporting_write, reporting_replace


class _ReportingFile:
    """A file that reports each block when its bytes are on their way to the disk."""

    def __init__(self, file, report):
        self._file, self._report, self._space = file, report, BLOCK

    def write(self, data):
        data = memoryview(data).cast("B")
        rest = data
        while len(rest) >= self._space:
            self._file.write(rest[: self._space])
            self._file.flush()
            self._report()
            rest, self._space = rest[self._space :], BLOCK
        self._file.write(rest)
        self._space -= len(rest)
        return len(data)

    def __getattr__(self, name):
        return getattr(self._file, name)
