"""What a run needs to go on as if it had never been stopped, in and out of its checkpoint."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from ..distributed import on_main_process
from ..errors import UserError
from ..files import atomic_write
from .checkpointing import (
    LAST,
    PREVIOUS,
    first_readable,
    labels_from_state,
    labels_to_state,
    load_checkpoint,
    save_checkpoint,
)
from .epoch_writer import cut_metrics
from .label_folder import check_label_folder
from .learning_rate import scheduler_state
from .resume_checks import FORMAT, check_state, flat_config

if TYPE_CHECKING:
    from .trainer import UDATrainer

logger = logging.getLogger(__name__)


def save_run(trainer: UDATrainer, name: str) -> None:
    """Write the run after the epochs done so far; optimiser and schedule only into `LAST`.

    The `LAST` that is there becomes `PREVIOUS`.

    Args:
        trainer: of the run.
        name: of the file in OUTPUT_DIR.
    """
    folder = trainer.cfg.OUTPUT_DIR
    state = {
        "format": FORMAT,
        "model": trainer.model.state_dict(),
        "epoch": trainer.epoch,
        "iter": trainer.iter,
        "round_start_iter": trainer.round_start_iter,
        "epochs_per_round": trainer.epochs_per_round,
        "records": trainer.records,
        "memory": trainer.memory,
        "labels": labels_to_state(trainer.labels),
        "images": trainer.images.digest,
        "seed": trainer.cfg.UDA.SEED,
        "config": flat_config(trainer.cfg),
    }
    if name != LAST:
        save_checkpoint(os.path.join(folder, name), state)
        return
    state["optimizer"] = trainer.optimizer.state_dict()
    state["scheduler"] = scheduler_state(trainer.scheduler)
    if trainer.grad_scaler is not None:
        state["grad_scaler"] = trainer.grad_scaler.state_dict()
    save_checkpoint(os.path.join(folder, LAST), state, os.path.join(folder, PREVIOUS))
    with atomic_write(os.path.join(folder, "last_checkpoint")) as file:
        file.write(LAST.encode())


def resume_run(trainer: UDATrainer) -> bool:
    """Bring a new trainer to where the last readable checkpoint of OUTPUT_DIR was written.

    Returns:
        Whether there was a checkpoint.

    Raises:
        UserError: no checkpoint can be read, or it is not of this run, see `check_state`.
    """
    path = on_main_process(lambda: _settle(trainer.cfg.OUTPUT_DIR))
    if path is None:
        on_main_process(lambda: cut_metrics(trainer.cfg.OUTPUT_DIR, 0))
        return False
    state = load_checkpoint(path)
    check_state(state, trainer, path)
    trainer.records, trainer.memory = state["records"], state["memory"]
    trainer.epoch = state["epoch"]
    trainer.iter = state["round_start_iter"]
    trainer.start_round(labels_from_state(state["labels"]), use_centroids=False)
    trainer.iter = trainer.start_iter = state["iter"]
    _load_into(trainer, state, path)
    trainer.start_epoch = state["epoch"] + 1
    on_main_process(lambda: cut_metrics(trainer.cfg.OUTPUT_DIR, state["iter"]))
    on_main_process(lambda: _check_labels(trainer))
    logger.info("Resuming %s after epoch %d from %s.", trainer.stage, state["epoch"], path)
    return True


def _settle(folder: str) -> str | None:
    """The path of the last checkpoint that can be read, under its name; None if there is none.

    A last checkpoint that is damaged, or that a kill has kept from its name, is replaced by the one
    before: it must not become the one before itself when the next is written.
    """
    last, previous = (os.path.join(folder, name) for name in (LAST, PREVIOUS))
    for path in (last, previous):
        if os.path.isdir(path):
            raise UserError(f"The checkpoint {path} is a folder; move it to another place.")
    readable = first_readable([last, previous])
    if readable == previous:
        os.replace(previous, last)
    return None if readable is None else last


def _check_labels(trainer: UDATrainer) -> None:
    """The files of the finished rounds and of the one under way, whose record is in the memory."""
    under_way = [{"round": trainer.round, **trainer.memory.get("round", {})}]
    folder = trainer.cfg.OUTPUT_DIR
    check_label_folder(folder, [*trainer.records, *under_way], trainer.images.paths)


def _load_into(trainer: UDATrainer, state: dict[str, Any], path: str) -> None:
    """Network, optimiser, schedule and loss scaling of a checkpoint."""
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
