"""Checkpoints that survive a kill at any moment, and weights from other runs."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from ..errors import UserError
from ..files import atomic_write
from ..labeling.types import PseudoLabels

logger = logging.getLogger(__name__)

LAST = "model_last.pth"
"""The checkpoint that `--resume` continues from."""
FINAL = "model_final.pth"
"""The network at the end of a stage."""
BEST = "model_best.pth"
"""The network of the round with the best score on the labelled test set."""


OF_CLASSES = re.compile(r"heads\.(parts\.\w+\.)?weight$|criteria\.")
"""Names of tensors whose shape depends on the number of classes."""


class WeightsLoader(Checkpointer):
    """fast-reid's checkpointer for weights of another run: its classes are not this run's classes.

    Classifier rows and class memories of other shapes are left out without a warning; a file whose
    backbone does not fit is refused. Of a run with mean teachers a teacher is read.

    Args:
        network: to load into.
        path: for messages.
        number: which of the teachers is read, if there are several.

    Attributes:
        random_views: after loading, the views whose layers the file does not have.
        networks: after loading, how many networks the file has.
    """

    def __init__(self, network: nn.Module, path: str, number: int = 0) -> None:
        super().__init__(network)
        self.path, self.number = path, number
        self.random_views: set[str] = set()
        self.networks = 1

    def _load_model(self, checkpoint: Any) -> Any:
        if not isinstance(checkpoint, dict) or "model" not in checkpoint:
            # A plain state dict, as torchvision and many repositories save it.
            checkpoint = {"model": checkpoint}
        own = self.model.state_dict()
        self.networks = max(1, len(teachers_in(checkpoint["model"])))
        loaded = one_network(checkpoint["model"], self.number)
        for name in list(loaded):
            fits = name in own and own[name].shape == loaded[name].shape
            if OF_CLASSES.match(name) and not fits:
                del loaded[name]
        checkpoint["model"] = loaded
        self.random_views = views_that_differ(own, loaded)
        shapes = {name: tuple(value.shape) for name, value in loaded.items()}
        backbone = [key for key in own if key.startswith("backbone.")]
        fitting = sum(shapes.get(key) == tuple(own[key].shape) for key in backbone)
        if fitting < len(backbone):
            raise UserError(
                f"{self.path} fits {fitting} of {len(backbone)} backbone tensors only: it is of "
                "another architecture; set MODEL.BACKBONE.* to that of the weights, or remove the "
                "file if it is the source network of an earlier config."
            )
        return super()._load_model(checkpoint)


def load_weights(model: nn.Module, paths: Sequence[str], tested: Sequence[str] = ()) -> None:
    """Load the networks of other runs into the students of a model, and copy them to the teachers.

    Args:
        model: to load into; the number of classes may be another.
        paths: of the files: one for each student, or a single one for all, from which student n
            takes teacher n if it has several.
        tested: views that the files must have; others may stay random, with a warning.

    Raises:
        UserError: a file is damaged, of another architecture, or without a tested view.
    """
    loaded = set()
    for number, student in enumerate(model.students):
        path = paths[min(number, len(paths) - 1)]
        loader = WeightsLoader(student, path, number)
        loader.load(path, checkpointables=[])
        _check_views(model.views, loader, tested)
        loaded.add((os.path.realpath(path), number % loader.networks))
    if len(loaded) < len(model.students):
        logger.warning(
            "%d students start from %d network(s); name a file for each in MODEL.WEIGHTS and "
            "UDA.MEAN_TEACHER.WEIGHTS.", len(model.students), len(loaded),
        )  # fmt: skip
    model.copy_to_teachers()


def _check_views(views: Sequence[str], loader: WeightsLoader, tested: Sequence[str]) -> None:
    """Refuse a file without a tested view; warn of other views that it does not have."""
    path, random_views = loader.path, loader.random_views
    missing = [view for view in views if view in random_views]
    if random_views & set(tested):
        raise UserError(
            f"{path} does not have the layers of the view(s) {', '.join(missing)} that the config "
            "describes; set TEST.VIEWS to others, or MODEL.HEADS to those of the file."
        )
    if missing and not tested:
        logger.warning(
            "%s does not have the layers of the view(s) %s: they start at random.",
            path, ", ".join(missing),
        )  # fmt: skip


def views_that_differ(own: Mapping[str, Any], loaded: Mapping[str, Any]) -> set[str]:
    """The views of a network that a file has not, or has with other layers or other sizes.

    Args:
        own: name -> tensor of the network.
        loaded: those of the file.
    """
    resized = {name for name in set(own) & set(loaded) if own[name].shape != loaded[name].shape}
    names = {
        name
        for name in (set(own) ^ set(loaded)) | resized
        if name.startswith("heads.")
        and not OF_CLASSES.match(name)
        and not name.endswith("num_batches_tracked")
    }
    parts = {name.split(".")[2] for name in own if name.startswith("heads.parts.")}
    differing = {name.split(".")[2] for name in names if name.startswith("heads.parts.")} & parts
    if any(name.startswith("heads.part_bottleneck.") for name in names):
        differing |= parts
    if any(name in own and not name.startswith("heads.part") for name in names):
        differing.add("global")
    return differing


def one_network(state: Mapping[str, torch.Tensor], number: int = 0) -> dict[str, torch.Tensor]:
    """The state of a single network: the state itself, or that of a teacher if it has teachers.

    Args:
        state: names -> tensors, as `state_dict` gives them; a prefix "module." is dropped.
        number: which teacher, modulo their number.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    teachers = teachers_in(state)
    if not teachers:
        return state
    prefix = f"teachers.{teachers[number % len(teachers)]}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def teachers_in(state: Mapping[str, torch.Tensor]) -> list[str]:
    """The numbers of the teachers of a state, as its names have them, from "0"."""
    names = (name.removeprefix("module.") for name in state)
    return sorted({name.split(".")[1] for name in names if name.startswith("teachers.")}, key=int)


def save_checkpoint(path: str, state: Mapping[str, Any]) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    try:
        with atomic_write(path) as file:
            torch.save(dict(state), file)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"The checkpoint {path} cannot be written ({' '.join(str(error).split())}); free some "
            "space or change OUTPUT_DIR, then continue with --resume."
        ) from error


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a state written by `save_checkpoint`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}); remove it and start "
            "without --resume."
        ) from error


def labels_to_state(labels: Mapping[str, PseudoLabels]) -> dict[str, dict[str, torch.Tensor]]:
    """Pseudo labels as tensors."""
    return {
        view: {
            name: torch.from_numpy(getattr(part, name).copy())
            for name in ("labels", "centroids", "weights")
        }
        for view, part in labels.items()
    }


def labels_from_state(state: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, PseudoLabels]:
    """The inverse of `labels_to_state`."""
    return {
        view: PseudoLabels(**{name: tensor.numpy() for name, tensor in part.items()})
        for view, part in state.items()
    }
