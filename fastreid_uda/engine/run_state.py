"""What a run needs to go on as if it had never been stopped, in and out of its checkpoint."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from ..config_loading import all_keys
from ..errors import UserError
from .checkpointing import (
    LAST,
    labels_from_state,
    labels_to_state,
    load_checkpoint,
    save_checkpoint,
    teachers_in,
)
from .learning_rate import scheduler_state

if TYPE_CHECKING:
    from .trainer import UDATrainer

logger = logging.getLogger(__name__)

FREE_TO_CHANGE = ("OUTPUT_DIR", "DATALOADER.NUM_WORKERS", "TEST.", "UDA.STAGES", "UDA.METHOD",
                  "SOLVER.CHECKPOINT_PERIOD", "MODEL.WEIGHTS",
                  "UDA.MEAN_TEACHER.WEIGHTS")  # fmt: skip
"""Keys that do not change what a resumed run trains."""


def save_run(trainer: UDATrainer, name: str) -> None:
    """Write the run after the epochs done so far; optimiser and schedule only into `LAST`.

    Args:
        trainer: of the run.
        name: of the file in OUTPUT_DIR.
    """
    state = {
        "model": trainer.model.state_dict(),
        "epoch": trainer.epoch,
        "iter": trainer.iter,
        "round_start_iter": trainer.round_start_iter,
        "records": trainer.records,
        "memory": trainer.memory,
        "labels": labels_to_state(trainer.labels),
        "images": trainer.images.digest,
        "seed": trainer.cfg.UDA.SEED,
        "config": flat_config(trainer.cfg),
    }
    if name == LAST:
        state["optimizer"] = trainer.optimizer.state_dict()
        state["scheduler"] = scheduler_state(trainer.scheduler)
        if trainer.grad_scaler is not None:
            state["grad_scaler"] = trainer.grad_scaler.state_dict()
    save_checkpoint(os.path.join(trainer.cfg.OUTPUT_DIR, name), state)
    if name == LAST:
        with open(os.path.join(trainer.cfg.OUTPUT_DIR, "last_checkpoint"), "w") as file:
            file.write(name)


def resume_run(trainer: UDATrainer) -> bool:
    """Bring a new trainer to where the last checkpoint of OUTPUT_DIR was written.

    Returns:
        Whether there was a checkpoint.

    Raises:
        UserError: the checkpoint is damaged, or of other images, another seed or another network.
    """
    path = os.path.join(trainer.cfg.OUTPUT_DIR, LAST)
    if not os.path.isfile(path):
        return False
    state = load_checkpoint(path)
    if state["images"] != trainer.images.digest:
        raise UserError(
            f"{path} was made with other training images; restore the data set, or start without "
            "--resume."
        )
    if state["seed"] != trainer.cfg.UDA.SEED:
        raise UserError(
            f"{path} was made with UDA.SEED {state['seed']}, but it is {trainer.cfg.UDA.SEED} now; "
            "set it back, or start without --resume."
        )
    if tuple(state["labels"]) != trainer.model.views:
        raise UserError(
            f"{path} is of a network with the views {', '.join(state['labels'])}, but the config "
            f"describes {', '.join(trainer.model.views)}; restore it, or start without --resume."
        )
    saved, now = (len(teachers_in(s)) for s in (state["model"], trainer.model.state_dict()))
    if saved != now:
        raise UserError(
            f"{path} has {saved} mean teacher(s), but the config describes {now}; restore "
            "UDA.MEAN_TEACHER, or start without --resume."
        )
    _warn_of_changes(state["config"], flat_config(trainer.cfg), path)
    trainer.records, trainer.memory = state["records"], state["memory"]
    trainer.epoch = state["epoch"]
    trainer.iter = state["round_start_iter"]
    trainer.start_round(labels_from_state(state["labels"]), use_centroids=False)
    trainer.iter = trainer.start_iter = state["iter"]
    try:
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} is of another network or optimiser than the config describes; restore the "
            "config, or start without --resume."
        ) from error
    for name, scheduler in trainer.scheduler.items():
        scheduler.load_state_dict(state["scheduler"][name])
    if trainer.grad_scaler is not None and "grad_scaler" in state:
        trainer.grad_scaler.load_state_dict(state["grad_scaler"])
    trainer.start_epoch = state["epoch"] + 1
    logger.info("Resuming %s after epoch %d from %s.", trainer.stage, state["epoch"], path)
    return True


def flat_config(cfg: Any) -> dict[str, str]:
    """Every key of a config with its value as text."""
    values = {}
    for key in all_keys(cfg):
        node = cfg
        for name in key.split("."):
            node = node[name]
        values[key] = str(node)
    return values


def _warn_of_changes(before: dict[str, str], now: dict[str, str], path: str) -> None:
    changed = [
        f"{key} {before.get(key)} -> {value}"
        for key, value in now.items()
        if before.get(key) != value and not key.startswith(FREE_TO_CHANGE)
    ]
    if changed:
        logger.warning(
            "The config is not that of %s, so the run will not be what it would have been: %s.",
            path, "; ".join(changed),
        )  # fmt: skip
