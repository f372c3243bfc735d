"""MODEL.FROM_WEIGHTS: the config's network is the one that MODEL.WEIGHTS is of."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

from ..config_checks import check_config
from ..config_values import get
from ..errors import UserError
from ..modeling.build import build_network
from ..modeling.head_recognition import GEM_P, HEADS, recognise_head
from ..modeling.recognition import (
    BACKBONE,
    Shapes,
    UnknownNetworkError,
    recognise_backbone,
    shapes_of,
)
from .checkpointing import try_checkpoint
from .weights import OF_CLASSES, state_of_one_network

logger = logging.getLogger(__name__)

_OF_THE_HOST = {"Baseline": "UDABaseline"}
_MEAN, _STD = "pixel_mean", "pixel_std"


def take_network_from_weights(cfg: Any) -> None:
    """Set MODEL.BACKBONE, HEADS and PIXEL_* to what the file MODEL.WEIGHTS shows, in place.

    Does nothing unless MODEL.FROM_WEIGHTS is True. What tensors do not show stays as it is:
    LAST_STRIDE, a pooling without tensors, the size of images, the kind of batch norm.

    Raises:
        UserError: there is no file, or its network is none that fast-reid and our heads have.
    """
    if not cfg.MODEL.FROM_WEIGHTS:
        return
    path = cfg.MODEL.WEIGHTS
    if not path:
        raise UserError(
            "MODEL.FROM_WEIGHTS is True, but MODEL.WEIGHTS is empty; add MODEL.WEIGHTS and a "
            "checkpoint, or MODEL.FROM_WEIGHTS False to start from the config's own network."
        )
    state = read_network(path)
    model = cfg.MODEL
    model.META_ARCHITECTURE = _OF_THE_HOST.get(model.META_ARCHITECTURE, model.META_ARCHITECTURE)
    try:
        _set_backbone(cfg, state)
        _set_head(cfg, state)
    except UnknownNetworkError as error:
        raise UserError(
            f"MODEL.WEIGHTS is {path}, whose network is not recognised: {error}; set "
            "MODEL.FROM_WEIGHTS False and describe it by MODEL.BACKBONE.* and MODEL.HEADS.*, or "
            "take another checkpoint."
        ) from error
    _set_pixels(cfg, state)
    _require_same_tensors(cfg, state)
    check_config(cfg)


def read_network(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a file's network under today's names; of the first teacher if it has some.

    Raises:
        UserError: there is no such file, it is damaged, or it holds no network.
    """
    if not os.path.isfile(path):
        raise UserError(f"MODEL.WEIGHTS is {path!r}, but there is no such file.")
    checkpoint, damage = try_checkpoint(path)
    if damage:
        raise UserError(f"Cannot load {path}, because {damage}; copy or download it again.")
    return state_of_one_network(checkpoint, path)


def network_line(cfg: Any) -> str:
    """One sentence on a network that was taken from its file, and on what the file cannot show."""
    backbone, heads, size = cfg.MODEL.BACKBONE, cfg.MODEL.HEADS, cfg.INPUT.SIZE_TEST
    flags = "".join(f", {flag}" for flag in ("WITH_IBN", "WITH_SE", "WITH_NL") if backbone[flag])
    head = [heads.NAME]
    head += [f"EMBEDDING_DIM {heads.EMBEDDING_DIM}"] if heads.EMBEDDING_DIM else []
    head += ["WITH_BNNECK"] if heads.WITH_BNNECK else []
    head += [heads.POOL_LAYER] if heads.POOL_LAYER == GEM_P else []
    kept = [f"MODEL.BACKBONE.LAST_STRIDE {backbone.LAST_STRIDE}"]
    kept += [] if heads.POOL_LAYER == GEM_P else [f"MODEL.HEADS.POOL_LAYER {heads.POOL_LAYER}"]
    kept += [f"INPUT.SIZE_TRAIN {list(cfg.INPUT.SIZE_TRAIN)}", f"SIZE_TEST {list(size)}"]
    return (
        f"Network of {cfg.MODEL.WEIGHTS}: {backbone.NAME} {backbone.DEPTH}{flags}; "
        f"{', '.join(head)}. A file does not show these, make sure that they are those of its "
        f"training: {', '.join(kept)}."
    )


def _set_backbone(cfg: Any, state: Mapping[str, Any]) -> None:
    shapes = shapes_of(state, BACKBONE)
    if not shapes:
        raise UnknownNetworkError(
            f"no tensor's name begins with {BACKBONE!r} (the first is {next(iter(state))!r}); "
            "ImageNet weights belong into MODEL.BACKBONE.PRETRAIN_PATH"
        )
    for key, value in recognise_backbone(shapes, cfg).items():
        cfg.MODEL.BACKBONE[key] = value


def _set_head(cfg: Any, state: Mapping[str, Any]) -> None:
    backbone = cfg.MODEL.BACKBONE
    for key, value in recognise_head(shapes_of(state, HEADS), backbone.FEAT_DIM, cfg).items():
        group, _, name = f"MODEL.HEADS.{key}".rpartition(".")
        get(cfg, group)[name] = value


def _set_pixels(cfg: Any, state: Mapping[str, Any]) -> None:
    """The mean and deviation of colours, which files of fast-reid before 1.0 hold."""
    for name, key in ((_MEAN, "PIXEL_MEAN"), (_STD, "PIXEL_STD")):
        values = [float(x) for x in state[name].flatten()] if name in state else []
        configured = [float(x) for x in cfg.MODEL[key]]
        if values and not torch.allclose(torch.tensor(values), torch.tensor(configured), atol=1e-2):
            cfg.MODEL[key] = values


def _require_same_tensors(cfg: Any, state: Mapping[str, Any]) -> None:
    """The network of the config has all tensors of the file, and no others but new parts."""
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.BACKBONE.PRETRAIN, plain.MODEL.DEVICE = False, "meta"
    plain.UDA.MEAN_TEACHER.ENABLED = False
    with torch.device("meta"):
        own = _of_a_network(shapes_of(build_network(plain).state_dict()))
    theirs = _of_a_network(shapes_of(state))
    with_head = any(name.startswith(HEADS) for name in theirs)
    with_parts = any(name.startswith(f"{HEADS}parts.") for name in theirs)
    new = [n for n in own if n.startswith(HEADS if not with_head else f"{HEADS}part")]
    for name in new if not (with_head and with_parts) else ():
        del own[name]
    odd = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
    if odd:
        raise UserError(
            f"MODEL.WEIGHTS is {cfg.MODEL.WEIGHTS}, whose backbone is {cfg.MODEL.BACKBONE.NAME} "
            f"{cfg.MODEL.BACKBONE.DEPTH}, but whose head is none of ours ({odd[0]} is "
            f"{'not in it' if odd[0] in own else 'unknown'}); set MODEL.FROM_WEIGHTS False and "
            "describe the network by MODEL.BACKBONE.* and MODEL.HEADS.*."
        )


def _of_a_network(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Without what depends on the classes, and without the colours."""
    return {
        name: shape
        for name, shape in shapes.items()
        if not OF_CLASSES.match(name) and name not in (_MEAN, _STD)
    }
