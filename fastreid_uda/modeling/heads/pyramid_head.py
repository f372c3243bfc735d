"""Pyramidal average pooling, a linear layer, and a neck that ends with a rectifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastreid.config import configurable
from fastreid.layers import get_norm
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from torch import nn
from torch.nn import functional as F

from .multi_view_head import stripes
from .pseudo_label_head import Outputs, PseudoLabelHead


@REID_HEADS_REGISTRY.register()
class PyramidHead(PseudoLabelHead):
    """One view: f_e = Linear(stripes of all granularities), f_r = ReLU(BN(f_e)), classifier on f_r.

    PAP-I, pyramidal average pooling: for i = 1..I the feature map is cut into i stripes, each is
    pooled, and all I (I + 1) / 2 vectors are concatenated, coarse to fine, top to bottom. Stripes
    overlap where i does not divide the height of the map. The "hyper-network" is the linear layer.

    f_e is clustered and tested and is what the triplet loss sees; f_r is what the center
    contrastive loss sees. So `MODEL.HEADS.NECK_FEAT` has no meaning here. `POOL_LAYER` pools a
    stripe (the paper's is GlobalAvgPool), `WITH_BNNECK` False leaves the batch norm out, and the
    dropout comes between f_r and the classifier. Unlike the other heads' neck the batch norm has a
    trained bias, as in CamStyle, whose head this is from f_e on.

    References: Liang and Lv, "NPLP: A Noisy Pseudo-Label Processing Approach for Unsupervised
    Domain-Adaptive Person Re-ID", III-D. CamStyle: Zhong et al., "Camera Style Adaptation for
    Person Re-identification", CVPR 2018, reid/models/resnet.py:47-57.

    Args:
        levels: I, 1 or more.
        feat_dim: C of the feature map.
        embedding_dim: D of f_e; 0: no linear layer, f_e is the concatenation.
        with_bnneck: whether there is a batch norm between f_e and the rectifier.
        norm_type: of that layer, `MODEL.HEADS.NORM`.
        dropout: share of f_r, in [0, 1), that the classifier does not see in training.
        **head: further arguments of fast-reid's head.
    """

    outputs = (*PseudoLabelHead.outputs, "activated")
    kinds = ("activated",)

    @configurable
    def __init__(
        self,
        *,
        levels: int,
        feat_dim: int,
        embedding_dim: int,
        with_bnneck: bool,
        norm_type: str,
        dropout: float = 0.0,
        **head: Any,
    ) -> None:
        pooled_dim = feat_dim * levels * (levels + 1) // 2
        dim = embedding_dim or pooled_dim
        super().__init__(
            feat_dim=dim, embedding_dim=0, with_bnneck=False, norm_type=norm_type, **head
        )
        self.levels = levels
        self.embedding = make_embedding(pooled_dim, dim) if embedding_dim else nn.Identity()
        norm = [get_norm(norm_type, dim)] if with_bnneck else []
        self.bottleneck = nn.Sequential(*norm, nn.ReLU())
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().from_config(cfg), "levels": cfg.MODEL.HEADS.PYRAMID.LEVELS}

    def forward(
        self,
        feature_map: torch.Tensor,
        targets: Mapping[str, torch.Tensor] | None = None,
        views: Sequence[str] | None = None,
    ) -> Outputs:
        """The outputs of the view; in evaluation f_e as `global` and f_r as `activated/global`."""
        embedded = self.embedding(self.pool(feature_map))
        activated = self.bottleneck(embedded[..., None, None])[..., 0, 0]
        if not self.training:
            return {"global": embedded, "activated/global": activated}
        logits = self.logits(self.dropout(activated))
        # A copy, because classification layers with a margin write into it.
        cls_outputs = self.cls_layer(logits.clone(), (targets or {}).get("global"))
        return {
            "global": {
                "cls_outputs": cls_outputs,
                "pred_class_logits": logits * self.cls_layer.s,
                "features": embedded,
                "activated": activated,
            }
        }

    def pool(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C I (I + 1) / 2): the pooled stripes of all granularities."""
        pooled = [
            self.pool_layer(stripe)
            for number in range(1, self.levels + 1)
            for stripe in stripes(feature_map, number)
        ]
        return torch.cat(pooled, dim=1)[..., 0, 0]

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, K): dot products, or cosines for classification layers with a margin."""
        if type(self.cls_layer).__name__ == "Linear":
            return F.linear(features, self.weight)
        return F.linear(F.normalize(features), F.normalize(self.weight))


def make_embedding(in_dim: int, out_dim: int) -> nn.Linear:
    """A linear layer with bias, drawn by Kaiming's rule (fan-out), as CamStyle's."""
    layer = nn.Linear(in_dim, out_dim)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    nn.init.zeros_(layer.bias)
    return layer
