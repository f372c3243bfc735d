"""Learning rate schedules that are counted in epochs and begin anew in each round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from fastreid.engine.train_loop import HookBase
from fastreid.solver import build_lr_scheduler as build_fastreid_scheduler

from ..errors import UserError

EPOCH_SCHEDULE = "EpochWarmupMultiStepLR"


def learning_rate_factor(
    epoch: int,
    *,
    warmup_epochs: int = 0,
    warmup_start: float = 0.0,
    warmup_peak: float = 1.0,
    steps: Sequence[int] = (),
    gamma: float = 0.1,
    step_factors: Sequence[float] = (),
    advance: int = 0,
) -> float:
    """The factor on the base learning rate in an epoch.

    With u = epoch + advance: start + (peak - start) u / W while u <= W (W > 0), afterwards gamma to
    the power of the number of steps reached by u, or the step factor of the last one. Four
    published schedules are cases of it, with epochs printed from 1 (u = e - 1 + advance):

    * MSPLR Eq. 6: W 10, start 0, peak 0.1, steps (41, 71), advance 1;
    * MMT and P2LR (which step before the epoch): W 10, start 0.01, steps (40, 70), advance 1;
    * SECRET (which steps after it): the same with advance 0;
    * SECRET without a source: no warm-up, steps (40, 60), step factors (0.3, 0.1).

    Args:
        epoch: counted from 0 within the schedule.
        warmup_epochs: W; 0 for no warm-up.
        warmup_start: factor at u = 0.
        warmup_peak: factor at u = W, from which it jumps to 1.
        steps: values of u from which the factor is multiplied by gamma once more.
        gamma: in (0, 1].
        step_factors: the factor from each step on, instead of the powers of gamma.
        advance: added to the epoch.
    """
    u = epoch + advance
    if warmup_epochs and u <= warmup_epochs:
        return warmup_start + (warmup_peak - warmup_start) * u / warmup_epochs
    reached = sum(step <= u for step in steps)
    return (1.0, *step_factors)[reached] if step_factors else gamma**reached


def build_scheduler(
    cfg: Any, optimizer: torch.optim.Optimizer, iters_per_epoch: int, first_epoch: int
) -> dict[str, Any]:
    """The schedule of one round, as fast-reid's trainer keeps it: a dict of torch schedulers.

    Args:
        cfg: `SOLVER` and `UDA`.
        optimizer: just built, with the base learning rates.
        iters_per_epoch: of this round.
        first_epoch: of this round in the schedule: 0 where the schedule restarts.
    """
    if cfg.SOLVER.SCHED != EPOCH_SCHEDULE:
        schedulers = build_fastreid_scheduler(cfg, optimizer, iters_per_epoch)
        if getattr(schedulers["lr_sched"], "T_max", 1) < 1:
            raise UserError(
                f"SOLVER.WARMUP_ITERS is {cfg.SOLVER.WARMUP_ITERS}, which with {iters_per_epoch} "
                f"iterations per epoch leaves nothing of SOLVER.MAX_EPOCH ({cfg.SOLVER.MAX_EPOCH}) "
                "to the cosine schedule; lower it."
            )
        return schedulers
    solver = cfg.SOLVER
    frozen = cfg.UDA.FREEZE_EPOCHS if cfg.UDA.FREEZE_BEFORE_SCHEDULE else 0

    def factor(epoch: int) -> float:
        if epoch < frozen:
            return 1.0  # the classifier alone trains, at the base learning rate
        return learning_rate_factor(
            first_epoch + epoch - frozen,
            warmup_epochs=solver.WARMUP_EPOCHS,
            warmup_start=solver.WARMUP_FACTOR,
            warmup_peak=solver.WARMUP_PEAK,
            steps=solver.STEPS,
            gamma=solver.GAMMA,
            step_factors=solver.STEP_FACTORS,
            advance=solver.SCHED_ADVANCE,
        )

    return {"lr_sched": torch.optim.lr_scheduler.LambdaLR(optimizer, factor)}


def scheduler_state(schedulers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The states of the schedulers in types that `torch.load(weights_only=True)` accepts."""
    states = {name: dict(scheduler.state_dict()) for name, scheduler in schedulers.items()}
    for state in states.values():
        state.pop("_get_lr_called_within_step", None)
        for key, value in state.items():
            if isinstance(value, Counter):
                state[key] = dict(value)
    return states


class LearningRateHook(HookBase):
    """Steps the schedulers of the current round and logs the learning rate.

    fast-reid's own hook keeps the optimiser it was made with; here each round has a new one.
    """

    def after_step(self) -> None:
        """Log, and advance a warm-up that is counted in iterations (fast-reid's)."""
        trainer = self.trainer
        rates = Counter(group["lr"] for group in trainer.optimizer.param_groups)
        trainer.storage.put_scalar("lr", rates.most_common(1)[0][0], smoothing_hint=False)
        warmup = trainer.scheduler.get("warmup_sched")
        if warmup is not None and trainer.iter_in_round < trainer.cfg.SOLVER.WARMUP_ITERS:
            warmup.step()

    def after_epoch(self) -> None:
        """Advance the schedule that is counted in epochs."""
        trainer = self.trainer
        warmup = trainer.scheduler.get("warmup_sched")
        if warmup is not None and trainer.iter_in_round < trainer.cfg.SOLVER.WARMUP_ITERS:
            return
        if trainer.epoch_in_round + 1 > trainer.cfg.SOLVER.DELAY_EPOCHS:
            trainer.scheduler["lr_sched"].step()
