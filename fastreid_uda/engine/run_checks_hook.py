"""Looks, while a run trains, whether it trains: weights move, teachers differ, losses are not 0."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import nn

from ..errors import UserError

logger = logging.getLogger(__name__)

ZERO_STEPS = 10
"""Steps in a row with a loss of exactly 0 that are worth a warning."""

_SAMPLED = 8
"""Parameters of a student that are compared before and after a step."""

_NO_RATE = "the learning rate was 0"


class RunChecksHook(HookBase):
    """Ends a run that does not train, and warns of one that hardly does. Changes nothing.

    In every round, and after a resume, the first step has to move the weights of every student. If
    it could not (a warm-up that begins at 0, a step that the loss scaler of mixed precision has
    skipped, a loss of exactly 0), the next one has to. A few tensors are compared until a step has
    moved them, and after each epoch those of student and teacher, on the main process alone: all
    processes hold the same.
    """

    def __init__(self) -> None:
        self._watching = True
        self._before: list[list[tuple[nn.Parameter, torch.Tensor]]] = []
        self._rate = self._scale = 0.0
        self._excuses: set[str] = set()
        self._zero_steps = 0
        self._equal_round = -1

    def before_epoch(self) -> None:
        """Called when labels and optimiser of a round are there."""
        trainer = self.trainer
        if trainer.stop_reason or trainer.epoch_in_round:
            return
        self._watching, self._zero_steps = True, 0
        self._excuses.clear()
        self._warn_of_few_classes()

    def before_step(self) -> None:
        """Keep what the step has to move, until one has."""
        trainer = self.trainer
        if not (self._watching and comm.is_main_process()):
            return
        groups = trainer.optimizer.param_groups
        self._rate = max(group["lr"] for group in groups)
        trained = {id(p) for group in groups if group["lr"] for p in group["params"]}
        self._before = []
        for student in trainer.model.students:
            moving = [p for p in student.parameters() if p.requires_grad and id(p) in trained]
            places = np.unique(np.linspace(0, len(moving) - 1, _SAMPLED).round().astype(int))
            chosen = [moving[n] for n in places] if moving else []
            self._before.append([(p, p.detach().clone()) for p in chosen])
        scaler = trainer.grad_scaler
        self._scale = 0.0 if scaler is None else scaler.get_scale()

    def after_step(self) -> None:
        """Compare, and count the steps without a loss."""
        if not comm.is_main_process():
            return
        loss = self.trainer.storage.latest().get("total_loss", (math.nan, 0))[0]
        self._zero_steps = self._zero_steps + 1 if loss == 0 else 0
        if self._zero_steps == ZERO_STEPS:
            logger.warning(
                "Round %d: the loss was exactly 0 in %d steps in a row, from which nothing is "
                "learnt; look at the number of classes (UDA.CLUSTER) and at MODEL.LOSSES.",
                self.trainer.round, ZERO_STEPS,
            )  # fmt: skip
        if self._watching:
            self._look(loss)

    def after_epoch(self) -> None:
        """The end of an epoch: student and teacher; of a round: whether any step moved weights."""
        trainer = self.trainer
        if not comm.is_main_process():
            return
        if not self._watching:
            self._compare_teachers()
        elif trainer.epoch_in_round + 1 == trainer.epochs_per_round:
            self._report_standstill()

    def _look(self, loss: float) -> None:
        """Be content, wait for the next step, or raise a `UserError`."""
        trainer = self.trainer
        before, self._before = self._before, []
        still = [
            number
            for number, sample in enumerate(before, start=1)
            if all(torch.equal(now.detach(), then) for now, then in sample)
        ]
        if not still:
            self._watching = False
            return
        scaler = trainer.grad_scaler
        if self._rate == 0:
            self._excuses.add(_NO_RATE)
        elif scaler is not None and scaler.get_scale() < self._scale:
            self._excuses.add("the loss scaler of SOLVER.AMP skipped the step")
        elif loss == 0:
            self._excuses.add("the loss was exactly 0")
        else:
            raise UserError(
                f"Iteration {trainer.iter} of round {trainer.round} left the weights of student "
                f"{still[0]} as they were ({type(trainer.optimizer).__name__}, learning rate "
                f"{self._rate:.3g}, loss {loss:.4g}); look at SOLVER.OPT, SOLVER.BASE_LR, and at "
                "what is frozen (MODEL.FREEZE_LAYERS, UDA.FREEZE_EPOCHS)."
            )

    def _report_standstill(self) -> None:
        trainer, why = self.trainer, " or ".join(sorted(self._excuses))
        if self._excuses == {_NO_RATE}:
            raise UserError(
                f"No step of round {trainer.round} moved the weights: {why} in all of them; look "
                "at SOLVER.BASE_LR, SOLVER.WARMUP_FACTOR and SOLVER.WARMUP_EPOCHS."
            )
        if why:
            logger.warning("No step of round %d moved the weights: %s.", trainer.round, why)

    def _compare_teachers(self) -> None:
        """Warn, once in a round, if a teacher is its student, bit for bit, without having to be."""
        trainer = self.trainer
        model, steps = trainer.model, trainer.iters_per_epoch
        # The first step of a run makes them equal where the average is warmed up.
        if steps < 2 or not getattr(model, "ema_decay", 0) or self._equal_round == trainer.round:
            return
        pairs = zip(model.students, model.teachers, strict=True)
        for number, (student, teacher) in enumerate(pairs, start=1):
            own = dict(student.named_parameters())
            # From the head on: a frozen body is the same in both.
            taught = reversed(list(teacher.named_parameters()))
            if all(torch.equal(parameter, own[name].detach()) for name, parameter in taught):
                self._equal_round = trainer.round
                logger.warning(
                    "Round %d: teacher %d equals its student after %d steps and has nothing to "
                    "teach; look at UDA.MEAN_TEACHER.EMA_DECAY.", trainer.round, number, steps,
                )  # fmt: skip

    def _warn_of_few_classes(self) -> None:
        trainer, cfg = self.trainer, self.trainer.cfg
        if cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler":
            return
        targets = trainer.dataset.targets
        classes = len(np.unique(targets[targets >= 0]))
        images = cfg.DATALOADER.NUM_INSTANCE
        wanted = cfg.SOLVER.IMS_PER_BATCH // images
        if classes < wanted:
            logger.warning(
                "Round %d: %d classes are fewer than the %d of a batch (SOLVER.IMS_PER_BATCH / "
                "DATALOADER.NUM_INSTANCE), so a batch has %d images; look at UDA.CLUSTER.",
                trainer.round, classes, wanted, classes * images,
            )  # fmt: skip
