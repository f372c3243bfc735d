"""A global view and one view per horizontal stripe of the feature map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastreid.config import configurable
from fastreid.layers import get_norm
from fastreid.layers.weight_init import weights_init_kaiming
from fastreid.modeling.backbones.resnet import Bottleneck
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from torch import nn

from ...errors import UserError
from .pseudo_label_head import ClassifierHead, Outputs, PseudoLabelHead


@REID_HEADS_REGISTRY.register()
class MultiViewHead(PseudoLabelHead):
    """The global view of `PseudoLabelHead`, and parts with a neck and a classifier of their own.

    The parts are the stripes of the feature map from top to bottom; SECRET puts one bottleneck
    block, shared by its two parts, between the map and the stripes, INCLR has three parts and none.
    The names of the global view's tensors are those of a head without parts, so that weights of
    the one can be loaded into the other.

    Reference: He et al., "SECRET", AAAI 2022, Fig. 2; facts that the figure leaves open from the
    authors' code, LunarShen/SECRET, secret/models/resnet.py:130-207.

    Args:
        parts: names of the stripes, from top to bottom.
        bottleneck: whether a bottleneck block comes before the stripes.
        detach: whether the losses of the parts stop at the feature map (SECRET's source training).
        norm: of the bottleneck block, `MODEL.BACKBONE.NORM`.
        **head: arguments of `ClassifierHead`, the same for all views.
    """

    @configurable
    def __init__(
        self,
        *,
        parts: tuple[str, ...],
        bottleneck: bool,
        detach: bool,
        norm: str,
        **head: Any,
    ) -> None:
        super().__init__(**head)
        self.detach = detach
        self.part_bottleneck = make_bottleneck(head["feat_dim"], norm) if bottleneck else None
        self.parts = nn.ModuleDict({name: ClassifierHead(**head) for name in parts})

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """The arguments of the constructor."""
        node = cfg.MODEL.HEADS.PARTS
        return {
            **super().from_config(cfg),
            "parts": cls.view_names(cfg)[1:],
            "bottleneck": node.BOTTLENECK,
            "detach": node.DETACH,
            "norm": cfg.MODEL.BACKBONE.NORM,
        }

    @classmethod
    def view_names(cls, cfg: Any) -> tuple[str, ...]:
        """`global` and the parts of `MODEL.HEADS.PARTS.NAMES`.

        Raises:
            UserError: there is no part, or names are not different words that a module can have.
        """
        names = tuple(cfg.MODEL.HEADS.PARTS.NAMES)
        views = ("global", *names)
        usable = all(
            isinstance(name, str) and name.isidentifier() and not hasattr(nn.ModuleDict, name)
            for name in names
        )
        if not names or len(set(views)) < len(views) or not usable:
            raise UserError(
                f"MODEL.HEADS.PARTS.NAMES is {names}, but MultiViewHead needs the names of one or "
                "more stripes, different words that are neither 'global' nor a name of torch's "
                "modules (as 'half'), e.g. \"('top', 'bottom')\"."
            )
        return views

    @property
    def branches(self) -> dict[str, ClassifierHead]:
        """Pooling, neck and classifier by view."""
        return {"global": self, **self.parts}

    def forward(
        self,
        feature_map: torch.Tensor,
        targets: Mapping[str, torch.Tensor] | None = None,
        views: Sequence[str] | None = None,
    ) -> Outputs:
        """The outputs of all views; the parts are left out if none of them is wanted."""
        targets = targets or {}
        outputs = {"global": self.classify(feature_map, targets.get("global"))}
        if views is not None and not set(views) & set(self.parts):
            return outputs
        local = feature_map.detach() if self.detach else feature_map
        if self.part_bottleneck is not None:
            local = self.part_bottleneck(local)
        for (view, part), stripe in zip(
            self.parts.items(), stripes(local, len(self.parts)), strict=True
        ):
            outputs[view] = part(stripe, targets.get(view))
        return outputs


def stripes(feature_map: torch.Tensor, number: int) -> list[torch.Tensor]:
    """The bins of an adaptive pooling to `number` rows, from top to bottom.

    Bin p of a map of H rows is rows floor(p H / P) to ceil((p + 1) H / P) - 1: bins overlap where
    P does not divide H (16 rows in 3 bins: 0-5, 5-10, 10-15), and no bin is ever empty.
    """
    height = feature_map.shape[2]
    return [
        feature_map[:, :, p * height // number : math.ceil((p + 1) * height / number)]
        for p in range(number)
    ]


def make_bottleneck(channels: int, norm: str) -> nn.Module:
    """A residual bottleneck block of stride 1 with a projection shortcut, channels to channels.

    1x1 to a quarter, 3x3, 1x1 back, each with batch norm; plus a 1x1 convolution with batch norm on
    the shortcut; convolutions without bias, drawn by Kaiming's rule (fan-out).
    """
    if channels % Bottleneck.expansion:
        raise UserError(
            f"MODEL.BACKBONE.FEAT_DIM is {channels}, but MODEL.HEADS.PARTS.BOTTLENECK needs a "
            f"multiple of {Bottleneck.expansion}; set it to False."
        )
    shortcut = nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=1, bias=False), get_norm(norm, channels)
    )
    block = Bottleneck(channels, channels // Bottleneck.expansion, norm, downsample=shortcut)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            weights_init_kaiming(module)
    return block
