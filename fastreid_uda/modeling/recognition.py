"""Names and shapes of tensors -> which of fast-reid's networks they are of.

Nothing is guessed: a backbone is recognised if fast-reid builds one with just these names and
shapes, which it does on the meta device, without numbers and in milliseconds. No two of its
backbones have all of them in common (tests/modeling/test_recognition.py).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from fastreid.modeling.backbones import build_backbone
from torch.overrides import TorchFunctionMode

logger = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]
"""Name -> shape of each tensor, in the order of the file."""


@dataclass(frozen=True)
class Family:
    """A backbone of fast-reid 1.4.0.

    Attributes:
        mark: a tensor that all of its networks have; those with other tensors are not tried.
        depths: the values of MODEL.BACKBONE.DEPTH.
        flags: the keys of MODEL.BACKBONE that give it further layers.
    """

    mark: str
    depths: tuple[str, ...]
    flags: tuple[str, ...] = ()


FAMILIES = {
    "build_resnet_backbone": Family(
        "conv1.weight", ("50x", "101x", "18x", "34x"), ("WITH_IBN", "WITH_SE", "WITH_NL")
    ),
    "build_resnext_backbone": Family("conv1.weight", ("50x", "101x"), ("WITH_IBN", "WITH_NL")),
    "build_resnest_backbone": Family("conv1.0.weight", ("50x", "101x", "200x", "269x")),
    "build_osnet_backbone": Family(
        "conv1.conv.weight", ("x1_0", "x0_75", "x0_5", "x0_25"), ("WITH_IBN",)
    ),
    "build_mobilenetv2_backbone": Family(
        "features.1.conv.0.weight", ("1.0x", "0.75x", "0.5x", "0.35x", "0.25x", "0.1x")
    ),
    "build_mobilenetv3_backbone": Family("features.1.block.0.0.weight", ("Large", "Small")),
    "build_shufflenetv2_backbone": Family("conv_last.0.weight", ("1.0x", "0.5x", "1.5x", "2.0x")),
    "build_regnet_backbone": Family(
        "s1.b1.f.a.weight",
        tuple(f"{size}{kind}" for size in (200, 400, 800, 1600, 3200, 4000, 6400) for kind in "xy"),
    ),
    "build_effnet_backbone": Family("s1.b1.dwise.weight", ("b0", "b1", "b2", "b3", "b4", "b5")),
    "build_repvgg_backbone": Family(
        "stage0.rbr_dense.conv.weight",
        ("A0", "A1", "A2", "B0", "B1", "B1g2", "B1g4", "B2", "B2g2", "B2g4", "B3", "B3g2", "B3g4"),
    ),
    "build_vit_backbone": Family("blocks.0.attn.qkv.weight", ("base", "small")),
}
FLAGS = ("WITH_IBN", "WITH_SE", "WITH_NL")

_ADVICE = {
    "pos_embed": "set INPUT.SIZE_TRAIN or MODEL.BACKBONE.STRIDE_SIZE to those of its training"
}
"""What to do if this tensor is the only one of another shape."""

BACKBONE = "backbone."
_COUNTER = "num_batches_tracked"  # of batch norm; files of torch < 0.4.1 have none


class UnknownNetworkError(Exception):
    """What does not fit, as a clause; the caller adds the file.

    Attributes:
        advice: what to set, as a clause; empty if it is not known.
    """

    def __init__(self, clause: str, advice: str = "") -> None:
        super().__init__(clause)
        self.advice = advice


def shapes_of(state: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors whose names begin with a prefix, which is taken away."""
    return {
        name.removeprefix(prefix): tuple(tensor.shape)
        for name, tensor in state.items()
        if name.startswith(prefix) and not name.endswith(_COUNTER)
    }


def recognise_backbone(shapes: Shapes, cfg: Any) -> dict[str, Any]:
    """The keys of MODEL.BACKBONE that make a backbone with these tensors.

    Args:
        shapes: of the backbone's tensors, without the prefix `backbone.`.
        cfg: for what tensors do not show.

    Returns:
        NAME, DEPTH, WITH_IBN, WITH_SE, WITH_NL, and FEAT_DIM if it can be told.

    Raises:
        UnknownNetworkError: no backbone has all of these tensors and no other.
    """
    nearest: tuple[float, str, str] = (math.inf, "its backbone is none of fast-reid's", "")
    for keys in _candidates(shapes, cfg):
        trial = _with_backbone(cfg, keys)
        backbone = _build_on_meta(trial)
        if backbone is None:
            continue
        own = shapes_of(backbone.state_dict())
        if own == shapes:
            dim = feature_dim(backbone, trial.INPUT.SIZE_TEST)
            return keys if dim is None else keys | {"FEAT_DIM": dim}
        differing = [name for name in {**own, **shapes} if own.get(name) != shapes.get(name)]
        if len(differing) < nearest[0]:
            advice = _ADVICE.get(differing[0], "") if len(differing) == 1 else ""
            nearest = len(differing), _difference(keys, own, shapes, differing), advice
    raise UnknownNetworkError(*nearest[1:])


def feature_dim(backbone: torch.nn.Module, size: Any) -> int | None:
    """Channels of the feature map; None if the backbone does not run without values.

    Args:
        backbone: which is moved to the meta device: shapes alone, no time and no memory.
        size: height and width of an image.
    """
    try:
        with torch.no_grad():
            images = torch.zeros(1, 3, *size, device="meta")
            return int(backbone.to("meta").eval()(images).shape[1])
    except Exception:  # a backbone that looks at values; the run will tell
        return None


def _candidates(shapes: Shapes, cfg: Any) -> Iterator[dict[str, Any]]:
    """Keys to try: of the families whose mark is there, and the config's own as they are."""
    seen = {
        "WITH_IBN": any(re.search(r"(^|\.)IN\.", name) for name in shapes),
        "WITH_SE": any(".se." in name for name in shapes),
        "WITH_NL": any(name.startswith("NL_") for name in shapes),
    }
    own = cfg.MODEL.BACKBONE
    if own.NAME not in FAMILIES:  # a backbone of the user's
        yield {key: own[key] for key in ("NAME", "DEPTH", *FLAGS)}
    for name, family in FAMILIES.items():
        if family.mark in shapes:
            flags = {flag: seen[flag] and flag in family.flags for flag in FLAGS}
            own_first = sorted(family.depths, key=lambda depth: depth != own.DEPTH)
            yield from ({"NAME": name, "DEPTH": depth, **flags} for depth in own_first)


def _with_backbone(cfg: Any, keys: Mapping[str, Any]) -> Any:
    trial = cfg.clone()
    trial.defrost()
    trial.MODEL.BACKBONE.PRETRAIN = False
    for key, value in keys.items():
        trial.MODEL.BACKBONE[key] = value
    return trial


class _LinspaceOnCpu(TorchFunctionMode):
    """fast-reid's transformer reads the values of a `linspace`, which has none on meta."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        kwargs = dict(kwargs or {}) | ({"device": "cpu"} if func is torch.linspace else {})
        result: torch.Tensor = func(*args, **kwargs)
        return result


@contextmanager
def without_numbers() -> Iterator[None]:
    """Networks that are built inside are on the meta device: shapes alone, in milliseconds."""
    with torch.device("meta"), _LinspaceOnCpu():
        yield


def _build_on_meta(cfg: Any) -> torch.nn.Module | None:
    try:
        with without_numbers():
            backbone: torch.nn.Module = build_backbone(cfg)
            return backbone
    except Exception:  # a depth that this backbone does not have, ...
        logger.debug("No backbone %s.", cfg.MODEL.BACKBONE, exc_info=True)
        return None


def _difference(
    keys: Mapping[str, Any], own: Shapes, shapes: Shapes, differing: Sequence[str]
) -> str:
    """'the nearest is ... 50x, but layer4.0.se.fc.0.weight is ...'."""
    flags = "".join(f", {key}" for key in FLAGS if keys[key])
    first = differing[0]
    count = f"{len(differing)} of {len(own)}"
    return (
        f"the nearest is {keys['NAME']} {keys['DEPTH']}{flags}, from which {count} tensors differ, "
        f"{BACKBONE}{first} first: {_word(shapes.get(first))} in the file, "
        f"{_word(own.get(first))} in that network"
    )


def _word(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {shape}"
