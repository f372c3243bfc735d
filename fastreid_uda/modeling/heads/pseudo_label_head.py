"""fast-reid's embedding head with a classifier that is made anew for each round's clusters."""

from __future__ import annotations

import torch
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from fastreid.modeling.heads.embedding_head import EmbeddingHead
from torch import nn

CLASSIFIER_STD = 0.001
"""Standard deviation of a random classifier, as in MMT and the strong baseline."""


@REID_HEADS_REGISTRY.register()
class PseudoLabelHead(EmbeddingHead):
    """One view, `global`: pooling, optional embedding and BN neck, and a classifier of K rows.

    All of fast-reid's head options keep their meaning (`MODEL.HEADS.*`). In training it returns
    what fast-reid's head returns; in evaluation the features after the neck, (B, D).
    """

    views = ("global",)
    weight: nn.Parameter

    @property
    def feature_dim(self) -> int:
        """D of the features before and after the neck."""
        return self.weight.shape[1]

    @torch.no_grad()
    def reset_classifiers(
        self, num_classes: dict[str, int], centroids: dict[str, torch.Tensor] | None = None
    ) -> None:
        """Replace the classifier; class k becomes row k.

        Args:
            num_classes: view -> K.
            centroids: view -> (K, D) first rows of the classifier; None: drawn from
                N(0, CLASSIFIER_STD^2).
        """
        (classes,) = num_classes.values()
        if centroids is None:
            weight = torch.randn(classes, self.feature_dim) * CLASSIFIER_STD
        else:
            (weight,) = centroids.values()
        # A copy: training must not write into the centroids of the labels.
        self.weight = nn.Parameter(weight.to(self.weight, copy=True))
        self.cls_layer.num_classes = classes

    def classifier_parameters(self) -> list[nn.Parameter]:
        """The parameters that train while the body is frozen."""
        return [self.weight]
