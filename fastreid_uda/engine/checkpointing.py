"""Checkpoints that survive a kill at any moment and know when they are damaged."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from ..errors import UserError
from ..files import atomic_write
from ..labeling.types import PseudoLabels

logger = logging.getLogger(__name__)

LAST = "model_last.pth"
"""The checkpoint that `--resume` continues from."""
PREVIOUS = "model_previous.pth"
"""The one before, for the case that the last one cannot be read."""
FINAL = "model_final.pth"
"""The network at the end of a stage."""
BEST = "model_best.pth"
"""The network of the round with the best score on the labelled test set."""

_PICKLE, _PICKLE_OF_TORCH = b"\x80", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How files begin that pickle has written, and that torch < 1.6 has."""
_CODE = "which could run any code"

_A_FOLDER = 0x10
"""Attribute of an entry of a zip file; torch.load takes the tensor of such an entry as empty."""


class _UnreadableError(Exception):
    """Why a checkpoint cannot be read."""


def save_checkpoint(path: str, state: Mapping[str, Any], previous: str | None = None) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts.

    Args:
        path: of the file.
        state: what it holds.
        previous: the name that the file which is there keeps; None: it is replaced. At every moment
            one of the two is there and whole.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    try:
        with atomic_write(path, previous) as file:
            torch.save(dict(state), file)
    except (OSError, RuntimeError) as error:
        # torch answers an OSError of the file with a RuntimeError of its own.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "strerror", None) or " ".join(str(cause).split())
        raise UserError(
            f"The checkpoint {path} cannot be written ({reason}), and the one before is kept; free "
            "some space or change OUTPUT_DIR, then continue with --resume."
        ) from error


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a state written by `save_checkpoint`.

    Raises:
        UserError: the file is damaged, or no checkpoint.
    """
    try:
        return _read(path)
    except _UnreadableError as error:
        raise UserError(
            f"The checkpoint {path} cannot be read, because {error}; remove it and start without "
            "--resume."
        ) from error


def try_checkpoint(path: str) -> tuple[dict[str, Any], str]:
    """What a checkpoint holds, and why it cannot be read as the end of a sentence: one is empty."""
    try:
        return _read(path), ""
    except _UnreadableError as error:
        return {}, str(error)


def _read(path: str) -> dict[str, Any]:
    try:
        damaged = what_is_damaged(path)
        if damaged:
            raise _UnreadableError(damaged)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, _UnreadableError):
        raise
    except OSError as error:
        raise _UnreadableError(f"of an error ({error.strerror})") from error
    except Exception as error:  # whatever zipfile, pickle and torch raise on a broken file
        code = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
        if code:
            name = code[1].rstrip(".")
            reason = f"it holds the Python object {name}, {_CODE}"
        else:
            reason = "it is truncated or no checkpoint"
        raise _UnreadableError(reason) from error
    if not isinstance(state, dict):
        raise _UnreadableError("it is no checkpoint")
    return state


def what_is_damaged(path: str) -> str:
    """What has changed in a file since `torch.save` wrote it, as a clause; empty if nothing has.

    Also that `torch.save` has not written it, if pickle has.

    torch writes the checksum of each tensor and does not compare it when it reads. A file that has
    lost its end has no checksums, nor has one of torch < 1.6: they are left to torch.
    """
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            start = file.read(len(_PICKLE_OF_TORCH))
        plain = start.startswith(_PICKLE) and start != _PICKLE_OF_TORCH
        return f"it is a plain pickle, {_CODE}" if plain else ""
    try:
        with zipfile.ZipFile(path) as archive:
            folders = [e.filename for e in archive.infolist() if e.external_attr & _A_FOLDER]
            part = folders[0] if folders else archive.testzip()
    except OSError:
        raise
    except Exception:  # whatever zipfile makes of changed sizes, names and methods
        return "its table of contents is damaged"
    return f"its part {part} does not match its checksum" if part else ""


def what_to_do(reason: str) -> str:
    """What helps, as a clause, for a file of weights that cannot be read for this reason."""
    if reason.endswith(_CODE):
        return "save only its weights, as torch.save({'model': state_dict}, path)"
    return "copy or download it again"


def first_readable(paths: Sequence[str]) -> str | None:
    """The first of some checkpoints that can be read; says so if it is not the first that is there.

    Args:
        paths: in the order of preference; those that are not there are passed over.

    Returns:
        None if none of them is there.

    Raises:
        UserError: some are there, and none can be read.
    """
    there = [path for path in paths if os.path.isfile(path)]
    damaged: list[str] = []
    for path in there:
        state, reason = try_checkpoint(path)
        if not reason:
            if damaged:
                logger.warning(
                    "%s; %s of the end of epoch %s is taken instead.",
                    "; ".join(damaged), path, state.get("epoch"),
                )  # fmt: skip
            return path
        damaged.append(f"{path} cannot be read, because {reason}")
    if damaged:
        raise UserError(f"{'; '.join(damaged)}; remove them and start without --resume.")
    return None


def labels_to_state(labels: Mapping[str, PseudoLabels]) -> dict[str, dict[str, torch.Tensor]]:
    """Pseudo labels as tensors."""
    return {
        view: {
            field.name: torch.from_numpy(getattr(part, field.name).copy())
            for field in fields(part)
            if getattr(part, field.name) is not None
        }
        for view, part in labels.items()
    }


def labels_from_state(state: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, PseudoLabels]:
    """The inverse of `labels_to_state`."""
    return {
        view: PseudoLabels(**{name: tensor.numpy() for name, tensor in part.items()})
        for view, part in state.items()
    }
