"""Weights of other runs, loaded into the networks of this one."""

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
from .checkpoint_names import current_names
from .checkpointing import what_is_damaged, what_to_do

logger = logging.getLogger(__name__)

OF_CLASSES = re.compile(r"heads\.(parts\.\w+\.)?weight$|criteria\.")
"""Names of tensors whose shape depends on the number of classes."""

_OF_THE_GLOBAL_VIEW = re.compile(r"heads\.(?!parts?[._])(?!weight$)")


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
        unused: after loading, the layers of the file's global view that the network does not have.
    """

    def __init__(self, network: nn.Module, path: str, number: int = 0) -> None:
        super().__init__(network)
        self.path, self.number = path, number
        self.random_views: set[str] = set()
        self.networks = 1
        self.unused: list[str] = []

    def _load_file(self, filename: str) -> Any:
        damage = what_is_damaged(filename)
        if damage:
            raise UserError(f"Cannot load {filename}, because {damage}; {what_to_do(damage)}.")
        return super()._load_file(filename)

    def _load_model(self, checkpoint: Any) -> Any:
        state = _state_in(checkpoint, self.path)
        own = self.model.state_dict()
        self.networks = max(1, len(teachers_in(state)))
        loaded = current_names(one_network(state, self.number), self.path)
        for name in list(loaded):
            fits = name in own and own[name].shape == loaded[name].shape
            if OF_CLASSES.match(name) and not fits:
                del loaded[name]
        self.random_views = views_that_differ(own, loaded)
        self.unused = [
            name for name in loaded if name not in own and _OF_THE_GLOBAL_VIEW.match(name)
        ]
        shapes = {name: tuple(value.shape) for name, value in loaded.items()}
        counted = "num_batches_tracked"  # which files of torch < 0.4.1 do not have
        backbone = [k for k in own if k.startswith("backbone.") and not k.endswith(counted)]
        fitting = sum(shapes.get(key) == tuple(own[key].shape) for key in backbone)
        if fitting < len(backbone):
            raise UserError(
                f"{self.path} fits {fitting} of {len(backbone)} backbone tensors only: it is of "
                "another architecture; set MODEL.BACKBONE.* to that of the weights, or remove the "
                "file if it is the source network of an earlier config."
            )
        return super()._load_model({"model": loaded})


def _state_in(checkpoint: Any, path: str) -> Mapping[str, Any]:
    """Name -> tensor: plain, as torchvision and many repositories save it, or under "model"."""
    is_dict = isinstance(checkpoint, Mapping)
    state = checkpoint["model"] if is_dict and "model" in checkpoint else checkpoint
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(k, str) and hasattr(v, "shape") for k, v in state.items())
    ):
        raise UserError(
            f"{path} holds no network; give a file with a state dict (name -> tensor), plain or "
            "under the key 'model'."
        )
    return state


def network_files(cfg: Any) -> list[str]:
    """The files that a config starts from, one per student or one for all; [] for none."""
    return [cfg.MODEL.WEIGHTS, *cfg.UDA.MEAN_TEACHER.WEIGHTS] if cfg.MODEL.WEIGHTS else []


def load_weights(
    model: nn.Module, paths: Sequence[str], tested: Sequence[str] = (), first: int = 0
) -> None:
    """Load the networks of other runs into the students of a model, and copy them to the teachers.

    Args:
        model: to load into; the number of classes may be another.
        paths: of the files: one for each student, or a single one for all, from which student n
            takes teacher n if it has several.
        tested: views that the files must have; others may stay random, with a warning.
        first: the teacher that student 0 takes.

    Raises:
        UserError: a file is damaged, of another architecture, or without a tested view.
    """
    loaded = set()
    for number, student in enumerate(model.students):
        path = paths[min(number, len(paths) - 1)]
        loader = WeightsLoader(student, path, first + number)
        loader.load(path, checkpointables=[])
        if first >= loader.networks:
            raise UserError(
                f"{path} has {loader.networks} network(s), numbered from 1, but number {first + 1} "
                "is asked for; choose another."
            )
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
    elif loader.unused:
        logger.warning(
            "%s has layers of a head that the network does not use (%s): its features are not "
            "those that the file was trained for; set MODEL.HEADS.* to the head of the file, or "
            "MODEL.FROM_WEIGHTS True.", path, _shortened(loader.unused),
        )  # fmt: skip


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


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


def state_of_one_network(checkpoint: Any, path: str, number: int = 0) -> dict[str, torch.Tensor]:
    """The tensors of one network of a checkpoint, under the names of fast-reid 1.4.0.

    Args:
        checkpoint: what the file holds.
        path: of the file, for messages.
        number: of the teacher, if there are several.

    Raises:
        UserError: it holds no network.
    """
    return current_names(one_network(_state_in(checkpoint, path), number), path)


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
