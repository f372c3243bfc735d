"""fast-reid's embedding head with a classifier that is made anew for each round's clusters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from fastreid.config import configurable
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from fastreid.modeling.heads.embedding_head import EmbeddingHead
from torch import nn

from ...errors import UserError

CLASSIFIER_STD = 0.001
"""Standard deviation of a random classifier, as in MMT and the strong baseline."""

Outputs = dict[str, Any]
"""view -> what fast-reid's head returns: `cls_outputs`, `pred_class_logits` (B, K) and `features`
(B, D) in training, the tested features (B, D) in evaluation. There a head with `kinds` also gives
<kind>/<view> -> (B, D)."""

LOGITS = frozenset(("cls_outputs", "pred_class_logits"))
"""The outputs that the classifier makes."""


class ClassifierHead(EmbeddingHead):
    """One view: pooling, optional embedding and BN neck, and a classifier of K rows.

    All of fast-reid's head options keep their meaning (`MODEL.HEADS.*`).

    Args:
        dropout: share in [0, 1) of the features after the neck that are 0 in training; the
            classifier sees what is left, and so do losses if `MODEL.HEADS.NECK_FEAT` is "after".
        **head: arguments of fast-reid's head.
    """

    weight: nn.Parameter

    @configurable
    def __init__(self, *, dropout: float = 0.0, **head: Any) -> None:
        super().__init__(**head)
        if dropout:  # at the end, where it has no tensor of its own and renames none
            self.bottleneck.append(nn.Dropout(dropout))

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().from_config(cfg), "dropout": cfg.MODEL.HEADS.DROPOUT}

    @property
    def feature_dim(self) -> int:
        """D of the features before and after the neck."""
        return self.weight.shape[1]

    @torch.no_grad()
    def reset_classifier(self, num_classes: int, rows: torch.Tensor | None = None) -> None:
        """Replace the classifier; class k becomes row k.

        Args:
            num_classes: K.
            rows: (K, D) the classifier; None: drawn from N(0, CLASSIFIER_STD^2).
        """
        if rows is None:
            rows = torch.randn(num_classes, self.feature_dim) * CLASSIFIER_STD
        # A copy: training must not write into the centroids of the labels.
        self.weight = nn.Parameter(rows.to(self.weight, copy=True))
        self.cls_layer.num_classes = num_classes


@REID_HEADS_REGISTRY.register()
class PseudoLabelHead(ClassifierHead):
    """The head of a network with one view, `global`.

    Heads of this package take and give dicts by view, and name their views before they are built.

    Attributes:
        outputs: the names of what it gives the losses of a view.
        kinds: the kinds of features that it gives in evaluation beside the tested ones.
    """

    outputs: tuple[str, ...] = ("cls_outputs", "pred_class_logits", "features")
    kinds: tuple[str, ...] = ()

    @classmethod
    def view_names(cls, cfg: Any) -> tuple[str, ...]:
        """The views that the config gives this head, the global one first."""
        return ("global",)

    @property
    def branches(self) -> dict[str, ClassifierHead]:
        """Pooling, neck and classifier by view."""
        return {"global": self}

    def feature_name(self, kind: str, view: str) -> str:
        """The name that `<kind>/<view>` has in this head's output in evaluation."""
        return f"{kind}/{view}" if kind in self.kinds else view

    def forward(
        self,
        feature_map: torch.Tensor,
        targets: Mapping[str, torch.Tensor] | None = None,
        views: Sequence[str] | None = None,
    ) -> Outputs:
        """The outputs of all views; of some that are not wanted they may be missing.

        Args:
            feature_map: (B, C, H, W) of the backbone.
            targets: view -> (B,) int64; only classification layers with a margin look at them.
            views: those that are wanted; None: all.
        """
        return {"global": self.classify(feature_map, (targets or {}).get("global"))}

    def classify(self, feature_map: torch.Tensor, targets: torch.Tensor | None) -> Any:
        """The outputs of the global view."""
        return super().forward(feature_map, targets)


def check_head(head: type) -> None:
    """Raise a `UserError` if a class of fast-reid's registry is no head of this package."""
    if not issubclass(head, PseudoLabelHead):
        raise UserError(
            f"MODEL.HEADS.NAME is {head.__name__}, which cannot take new classes in each round; "
            "set it to PseudoLabelHead, MultiViewHead or PyramidHead."
        )


def heads_that_give(outputs: Collection[str]) -> list[str]:
    """The registered names of the heads of this package that give their losses all of these."""
    return [
        name
        for name, head in REID_HEADS_REGISTRY._obj_map.items()
        if issubclass(head, PseudoLabelHead) and set(outputs) <= set(head.outputs)
    ]
