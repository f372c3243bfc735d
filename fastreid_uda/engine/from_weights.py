"""MODEL.FROM_WEIGHTS: the config's network is the one that MODEL.WEIGHTS is of."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ..config_checks import check_config
from ..config_values import get
from ..errors import UserError
from ..modeling.build import build_network
from ..modeling.head_recognition import GEM_P, HEADS, recognise_head
from ..modeling.recognition import (
    BACKBONE,
    FLAGS,
    Shapes,
    UnknownNetworkError,
    recognise_backbone,
    shapes_of,
    without_numbers,
)
from .checkpointing import try_checkpoint, what_to_do
from .run_features import load_run_config
from .weights import OF_CLASSES, state_of_one_network

logger = logging.getLogger(__name__)

_DESCRIBE = (
    "set MODEL.FROM_WEIGHTS False and describe the network by MODEL.BACKBONE.* and MODEL.HEADS.*"
)
_OF_THE_HOST = {"Baseline": "UDABaseline"}
_PIXELS = {"pixel_mean": "PIXEL_MEAN", "pixel_std": "PIXEL_STD"}
_OF_A_BACKBONE = ("NAME", "DEPTH", *FLAGS, "FEAT_DIM")
_OF_A_HEAD = ("NAME", "WITH_BNNECK", "EMBEDDING_DIM", "PARTS.NAMES", "PARTS.BOTTLENECK",
              "PYRAMID.LEVELS")  # fmt: skip
"""The keys that are taken from a file; of a head also which pooling, if it has a tensor."""


def take_network_from_weights(cfg: Any) -> None:
    """Set MODEL.BACKBONE, HEADS and PIXEL_* to what the file MODEL.WEIGHTS shows, in place.

    Does nothing unless MODEL.FROM_WEIGHTS is True. What tensors do not show stays as it is:
    LAST_STRIDE, a pooling without tensors, the size of images, the kind of batch norm, and mostly
    the colours.

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
    _take_our_architecture(cfg)
    try:
        _set_backbone(cfg, state)
        _set_head(cfg, state)
    except UnknownNetworkError as error:
        raise UserError(
            f"MODEL.WEIGHTS is {path}, whose network is not recognised: {error}; "
            f"{error.advice or _DESCRIBE}, or take another checkpoint."
        ) from error
    _set_pixels(cfg, state)
    _require_same_tensors(cfg, state)
    check_config(cfg)


def take_network_of_run(cfg: Any) -> None:
    """Set, in place, what `take_network_from_weights` would to what a run has in OUTPUT_DIR.

    Its checkpoint holds all weights, so that the file that it started from may be gone, or another.
    Does nothing unless MODEL.FROM_WEIGHTS is True.

    Raises:
        UserError: OUTPUT_DIR holds no config of a run.
    """
    if not cfg.MODEL.FROM_WEIGHTS:
        return
    _take_our_architecture(cfg)
    run = load_run_config(cfg.OUTPUT_DIR).MODEL
    pooling = ("POOL_LAYER",) if GEM_P in (cfg.MODEL.HEADS.POOL_LAYER, run.HEADS.POOL_LAYER) else ()
    for key in (
        *(f"BACKBONE.{name}" for name in _OF_A_BACKBONE),
        *(f"HEADS.{name}" for name in (*_OF_A_HEAD, *pooling)),
        *_PIXELS.values(),
    ):
        group, _, name = f"MODEL.{key}".rpartition(".")
        get(cfg, group)[name] = get(run, key)
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
        raise UserError(f"Cannot load {path}, because {damage}; {what_to_do(damage)}.")
    return state_of_one_network(checkpoint, path)


def network_line(cfg: Any) -> str:
    """What was taken from a network's file, what the file cannot show, and what is not used.

    Args:
        cfg: of `take_network_from_weights`; the file is there.
    """
    state = read_network(cfg.MODEL.WEIGHTS)
    colours = _shown_colours(state)
    parts = [f"Network of {cfg.MODEL.WEIGHTS}: {network_words(cfg)}."]
    if colours:
        words = " and ".join(f"MODEL.{key} {_numbers(cfg.MODEL[key])}" for key in colours)
        parts.append(f"{words} as the file has it.")
    if not any(name.startswith(HEADS) for name in state):
        parts.append("There is no head in the file: that of the config is new.")
    unused = [n for n in state if not n.startswith((BACKBONE, HEADS)) and n not in _PIXELS]
    unused = [name for name in unused if not OF_CLASSES.match(name)]
    if unused:
        names = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
        parts.append(f"Of no backbone and no head, and not used: {names}.")
    kept = ", ".join(_not_shown(cfg, colours))
    parts.append(
        f"A file does not show these, make sure that they are those of its training: {kept}."
    )
    return " ".join(parts)


def network_words(cfg: Any) -> str:
    """Backbone and head of a config, for people."""
    backbone, heads = cfg.MODEL.BACKBONE, cfg.MODEL.HEADS
    flags = "".join(f", {flag}" for flag in FLAGS if backbone[flag])
    head = [heads.NAME]
    head += [f"EMBEDDING_DIM {heads.EMBEDDING_DIM}"] if heads.EMBEDDING_DIM else []
    head += ["WITH_BNNECK"] if heads.WITH_BNNECK else []
    head += [heads.POOL_LAYER] if heads.POOL_LAYER == GEM_P else []
    return f"{backbone.NAME} {backbone.DEPTH}{flags}; {', '.join(head)}"


def _not_shown(cfg: Any, colours: Sequence[str]) -> Iterator[str]:
    """The keys with their values that a file does not show."""
    backbone, heads = cfg.MODEL.BACKBONE, cfg.MODEL.HEADS
    if backbone.NAME == "build_vit_backbone":
        yield f"MODEL.BACKBONE.STRIDE_SIZE {list(backbone.STRIDE_SIZE)}"
    else:
        yield f"MODEL.BACKBONE.LAST_STRIDE {backbone.LAST_STRIDE}"
        yield f"MODEL.BACKBONE.NORM {backbone.NORM}"
    if heads.POOL_LAYER != GEM_P:
        yield f"MODEL.HEADS.POOL_LAYER {heads.POOL_LAYER}"
    for key in _PIXELS.values():
        if key not in colours:
            yield f"MODEL.{key} {_numbers(cfg.MODEL[key])}"
    yield f"INPUT.SIZE_TRAIN {list(cfg.INPUT.SIZE_TRAIN)}"
    yield f"INPUT.SIZE_TEST {list(cfg.INPUT.SIZE_TEST)}"


def _shown_colours(state: Mapping[str, Any]) -> list[str]:
    return [key for name, key in _PIXELS.items() if name in state]


def _numbers(values: Iterable[float]) -> str:
    return f"[{', '.join(f'{x:.6g}' for x in values)}]"


def _take_our_architecture(cfg: Any) -> None:
    model = cfg.MODEL
    model.META_ARCHITECTURE = _OF_THE_HOST.get(model.META_ARCHITECTURE, model.META_ARCHITECTURE)


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
    for name, key in _PIXELS.items():
        values = [float(x) for x in state[name].flatten()] if name in state else []
        configured = [float(x) for x in cfg.MODEL[key]]
        if values and not torch.allclose(torch.tensor(values), torch.tensor(configured), atol=1e-2):
            cfg.MODEL[key] = values


def _require_same_tensors(cfg: Any, state: Mapping[str, Any]) -> None:
    """The network of the config has all tensors of the file, and no others but new parts.

    What a file has beside backbone and head, as the centres of a loss, makes no features.
    """
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.BACKBONE.PRETRAIN, plain.MODEL.DEVICE = False, "meta"
    plain.UDA.MEAN_TEACHER.ENABLED = False
    with without_numbers():
        own = _of_a_network(shapes_of(build_network(plain).state_dict()))
    theirs = {
        name: shape
        for name, shape in _of_a_network(shapes_of(state)).items()
        if name.startswith((BACKBONE, HEADS)) or name in own
    }
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
            f"{_what_differs(odd[0], own, theirs)}); {_DESCRIBE}."
        )


def _what_differs(name: str, own: Shapes, theirs: Shapes) -> str:
    if name not in theirs:
        return "not in it"
    return f"of shape {theirs[name]}, not {own[name]}" if name in own else "unknown"


def _of_a_network(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Without what depends on the classes, and without the colours."""
    return {
        name: shape
        for name, shape in shapes.items()
        if not OF_CLASSES.match(name) and name not in _PIXELS
    }
