"""Whether a checkpoint is of this run, before anything is taken from it."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..config_values import all_keys
from ..errors import UserError
from .checkpointing import LAST, PREVIOUS
from .weights import teachers_in

if TYPE_CHECKING:
    from .trainer import UDATrainer

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the checkpoints; higher when what they hold changes its meaning."""

KEYS = ("model", "epoch", "iter", "round_start_iter", "records", "memory", "labels", "images",
        "seed", "config", "epochs_per_round", "optimizer", "scheduler")  # fmt: skip
"""What a checkpoint must have to be resumed from."""

FREE_TO_CHANGE = ("OUTPUT_DIR", "DATALOADER.NUM_WORKERS", "TEST.", "UDA.STAGES", "UDA.METHOD",
                  "UDA.REPORT.",
                  "SOLVER.CHECKPOINT_PERIOD", "MODEL.WEIGHTS",
                  "UDA.MEAN_TEACHER.WEIGHTS")  # fmt: skip
"""Keys that do not change what a resumed run trains."""


def goes_on(cfg: Any, args: argparse.Namespace) -> bool:
    """Whether all networks come from a checkpoint in OUTPUT_DIR, and none from MODEL.WEIGHTS."""
    if not args.resume or args.eval_only or "adapt" not in cfg.UDA.STAGES:
        return False
    return any(os.path.isfile(os.path.join(cfg.OUTPUT_DIR, name)) for name in (LAST, PREVIOUS))


def check_state(state: Mapping[str, Any], trainer: UDATrainer, path: str) -> None:
    """Refuse a checkpoint from which the trainer cannot go on; warn of a config that has changed.

    Raises:
        UserError: the checkpoint lacks something or is of another version, other images, another
            seed, another network or rounds of another length.
    """
    missing = [key for key in KEYS if key not in state]
    if missing or state.get("format") != FORMAT:
        lacking = f"it lacks {', '.join(missing)}" if missing else f"format {state.get('format')}"
        raise UserError(
            f"{path} is not of a run of this version of fastreid_uda ({lacking}); give it as "
            "MODEL.WEIGHTS to start from its network, or start without --resume."
        )
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
    _check_network(state, trainer, path)
    _check_rounds(state, trainer, path)
    _warn_of_changes(state["config"], flat_config(trainer.cfg), path)


def _check_network(state: Mapping[str, Any], trainer: UDATrainer, path: str) -> None:
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


def _check_rounds(state: Mapping[str, Any], trainer: UDATrainer, path: str) -> None:
    if state["epochs_per_round"] != trainer.epochs_per_round:
        raise UserError(
            f"{path} is of rounds of {state['epochs_per_round']} epoch(s), but the config has "
            f"rounds of {trainer.epochs_per_round}; set SOLVER.MAX_EPOCH and UDA.FREEZE_EPOCHS "
            "back, or start a new run in another OUTPUT_DIR with this file as MODEL.WEIGHTS."
        )
    done = len(state["records"])
    if done > trainer.num_rounds:
        raise UserError(
            f"{path} is of a run that has done {done} rounds, but UDA.ROUNDS is "
            f"{trainer.num_rounds}; set it to {done} or more."
        )


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
    if before.get("UDA.ROUNDS") != now["UDA.ROUNDS"]:
        logger.warning(
            "From the next round on, what grows up to the last round (the share of images that "
            "P2LR keeps) grows up to round %s; the rounds so far counted to %s.",
            now["UDA.ROUNDS"], before.get("UDA.ROUNDS"),
        )  # fmt: skip
