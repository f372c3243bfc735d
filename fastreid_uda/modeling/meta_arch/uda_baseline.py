"""The network that is adapted: backbone, head and the losses named by the config."""

from __future__ import annotations

from typing import Any

import torch
from fastreid.modeling.meta_arch.baseline import Baseline
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from torch import nn

from ..losses import LOSSES, ClassMemory


@META_ARCH_REGISTRY.register()
class UDABaseline(Baseline):
    """fast-reid's Baseline with registered losses and images that are normalised out of place.

    fast-reid subtracts the mean inside the batch tensor (baseline.py:130), so that a second forward
    pass of the same batch (flip test, teacher) would see other images.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.criteria = nn.ModuleDict(
            {name: build_loss(name, cfg.MODEL.LOSSES) for name in cfg.MODEL.LOSSES.NAME}
        )

    def forward(self, batched_inputs: dict[str, Any]) -> Any:
        """Losses by name in training, features (B, D) in evaluation."""
        features = self.backbone(self.preprocess_image(batched_inputs))
        if not self.training:
            return self.heads(features)
        targets = batched_inputs["targets"].to(self.device)
        weights = batched_inputs.get("weights")
        outputs = self.heads(features, targets)
        return self.losses(outputs, targets, None if weights is None else weights.to(self.device))

    def preprocess_image(self, batched_inputs: dict[str, Any] | torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) images, normalised; the batch itself is not changed."""
        images: Any = batched_inputs
        if isinstance(batched_inputs, dict):
            images = batched_inputs["images"]
        return (images.to(self.device) - self.pixel_mean) / self.pixel_std

    def losses(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """The scaled losses of a batch under the names that fast-reid's log uses."""
        return {loss.label: loss(outputs, targets, weights) for loss in self.criteria.values()}

    def start_round(
        self, num_classes: dict[str, int], centroids: dict[str, torch.Tensor] | None
    ) -> None:
        """New classifiers and new class memories for the classes of a round.

        Args:
            num_classes: view -> K.
            centroids: view -> (K, D) rows of the classifier; None: random.
        """
        self.heads.reset_classifiers(num_classes, centroids)
        (classes,) = num_classes.values()
        for memory in self.class_memories():
            memory.reset(classes, self.heads.feature_dim)

    def class_memories(self) -> list[ClassMemory]:
        """The losses that keep a vector per class."""
        return [loss for loss in self.criteria.values() if isinstance(loss, ClassMemory)]


def build_loss(name: str, losses_node: Any) -> nn.Module:
    """A registered loss with the arguments of its config node."""
    cls: Any = LOSSES.get(name)
    node = losses_node[cls.node]
    return LOSSES.build(name, **{key.lower(): value for key, value in node.items()})
