"""Which checkpoint and which config: of a run's folder, or of a checkpoint file."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config_loading import load_config
from ..engine.checkpointing import BEST, FINAL, LAST, PREVIOUS, try_checkpoint, what_to_do
from ..engine.embedding import file_config
from ..engine.from_weights import network_line, take_network_from_weights
from ..engine.run_features import CONFIG
from ..errors import UserError

logger = logging.getLogger(__name__)

CHECKPOINTS = {"final": (FINAL,), "best": (BEST,), "last": (LAST, PREVIOUS)}
"""What `--checkpoint` names: the files of a run in the order of preference."""

_STAGE_FOLDER = re.compile(r"source(_\d+)?|supervised|earlier_run_\d+")
"""Folders inside of OUTPUT_DIR; the config is in the folder above them."""

_SETTLED = (
    "UDA.SOURCE.CONFIG", "", "UDA.STAGES", "()", "MODEL.BACKBONE.PRETRAIN", "False",
    "MODEL.WEIGHTS", "", "UDA.MEAN_TEACHER.WEIGHTS", "()",
)  # fmt: skip
"""What training needs and the network does not; the files may have moved."""
_AS_WRITTEN = ("MODEL.FROM_WEIGHTS", "False")


@dataclass(frozen=True)
class Source:
    """A checkpoint and its config.

    Attributes:
        given: what the user named: a folder or a file.
        path: of the checkpoint.
        checkpoint: what it holds.
        cfg: the config.
        remark: a sentence on a network that was recognised by its tensors; else empty.
    """

    given: str
    path: str
    checkpoint: Mapping[str, Any]
    cfg: Any
    remark: str = ""


def open_source(
    given: str,
    config_file: str | None = None,
    choice: str | None = None,
    overrides: Sequence[str] = (),
) -> Source:
    """Find and read a checkpoint and its config.

    Args:
        given: OUTPUT_DIR of a run, or a checkpoint.
        config_file: the config; None: the one that the run has written, and for a file of no run
            its network is recognised by its tensors.
        choice: which checkpoint of a run, a key of `CHECKPOINTS`; None: the final one, or while
            there is none the last one.
        overrides: of config keys, KEY VALUE KEY VALUE ...

    Raises:
        UserError: something is missing or damaged.
    """
    folder, paths = _places(given, choice)
    path, checkpoint = _first_readable(paths)
    found = config_file or _config_of(folder)
    if found is None and os.path.isdir(given):
        raise UserError(
            f"{given} holds no {CONFIG}; give the OUTPUT_DIR of a run, or --config-file."
        )
    if found is None:
        cfg = file_config(path, overrides=overrides)
    else:
        # A run has written what network it took from the weights that it started from.
        settled = _SETTLED if config_file else (*_SETTLED, *_AS_WRITTEN)
        cfg = _config(found, path, [*settled, *overrides])
    remark = network_line(cfg) if cfg.MODEL.FROM_WEIGHTS else ""
    return Source(given, path, checkpoint, cfg, remark)


def _places(given: str, choice: str | None) -> tuple[str, list[str]]:
    """The folder of a run or a file, and the checkpoints that come into question."""
    if os.path.isdir(given):
        return given, _paths_of_run(given, choice)
    if not os.path.isfile(given):
        raise UserError(
            f"{given} is neither the OUTPUT_DIR of a run nor a checkpoint; give one of them."
        )
    if choice is not None:
        raise UserError(
            f"--checkpoint {choice} chooses among the files of a run, but {given} is a file; "
            "leave it out, or give the OUTPUT_DIR of the run."
        )
    return os.path.dirname(os.path.abspath(given)), [given]


def _config(config_file: str, path: str, overrides: list[str]) -> Any:
    """The config of a file, whose network may have to be recognised by the checkpoint's tensors."""
    cfg = load_config(config_file, overrides)
    if cfg.MODEL.FROM_WEIGHTS:
        cfg.MODEL.WEIGHTS = path
        take_network_from_weights(cfg)
    return cfg


def _paths_of_run(folder: str, choice: str | None) -> list[str]:
    """The checkpoints of a run that come into question, in the order of preference."""
    if choice is not None and choice not in CHECKPOINTS:
        known = ", ".join(CHECKPOINTS)
        raise UserError(f"--checkpoint is {choice!r}, but the known ones are: {known}.")
    wanted = CHECKPOINTS[choice] if choice else (FINAL, LAST, PREVIOUS)
    paths = [os.path.join(folder, name) for name in wanted]
    there = [path for path in paths if os.path.isfile(path)]
    if there:
        return there
    others = [
        name
        for name, files in CHECKPOINTS.items()
        if any(os.path.isfile(os.path.join(folder, file)) for file in files)
    ]
    if others:
        raise UserError(
            f"{folder} holds no {wanted[0]}; choose another checkpoint: --checkpoint "
            f"{' or '.join(others)}."
        )
    raise UserError(
        f"{folder} holds no checkpoint ({FINAL}, {BEST}, {LAST}); wait until the run has saved "
        "one, or give another folder."
    )


def _config_of(folder: str) -> str | None:
    """The config that a run has written into a folder, or for a stage into the folder above."""
    folders = [os.path.abspath(folder)]
    if _STAGE_FOLDER.fullmatch(os.path.basename(folders[0])):
        folders.append(os.path.dirname(folders[0]))
    paths = (os.path.join(place, CONFIG) for place in folders)
    return next(filter(os.path.isfile, paths), None)


def _first_readable(paths: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """The first checkpoint that can be read, with a warning if others could not."""
    damaged: list[str] = []
    for path in paths:
        checkpoint, reason = try_checkpoint(path)
        if not reason:
            if damaged:
                logger.warning("%s; %s is taken instead.", "; ".join(damaged), path)
            return path, checkpoint
        damaged.append(f"{path} cannot be read, because {reason}")
    raise UserError(f"{'; '.join(damaged)}; {what_to_do(reason)}, or choose another checkpoint.")
