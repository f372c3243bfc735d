"""The network that is adapted: backbone, head and the losses named by the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastreid.modeling.meta_arch.baseline import Baseline
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from torch import nn

from ..heads.pseudo_label_head import Outputs, check_head
from ..losses import LOSSES, ClassMemory


@META_ARCH_REGISTRY.register()
class UDABaseline(Baseline):
    """fast-reid's Baseline with views, registered losses and an unchanged batch.

    fast-reid subtracts the mean inside the batch tensor (baseline.py:130), so that a second forward
    pass of the same batch (flip test, teacher) would see other images.

    Attributes:
        criteria: view -> name -> loss; every view has losses of its own.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        check_head(type(self.heads))
        losses = cfg.MODEL.LOSSES
        self.criteria = nn.ModuleDict(
            {
                view: nn.ModuleDict({name: build_loss(name, losses) for name in losses.NAME})
                for view in self.views
            }
        )

    # -- what the trainer asks of every network --------------------------------------------------

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views, `global` first."""
        return tuple(self.heads.branches)

    @property
    def students(self) -> list[UDABaseline]:
        """The networks that the optimiser trains."""
        return [self]

    def start_round(
        self, num_classes: Mapping[str, int], centroids: Mapping[str, torch.Tensor] | None
    ) -> None:
        """New classifiers and new class memories for the classes of a round.

        Args:
            num_classes: view -> K.
            centroids: view -> (K, D) rows of the classifier; None: random.
        """
        for view, branch in self.heads.branches.items():
            branch.reset_classifier(
                num_classes[view], None if centroids is None else centroids[view]
            )
        for view, losses in self.criteria.items():
            for loss in losses.values():
                if isinstance(loss, ClassMemory):
                    loss.reset(num_classes[view], self.heads.branches[view].feature_dim)

    def classifiers(self) -> dict[str, nn.Parameter]:
        """The (K, D) parameters that train while the body is frozen, by view."""
        return {view: branch.weight for view, branch in self.heads.branches.items()}

    def class_memories(self) -> list[ClassMemory]:
        """The losses that keep a vector per class."""
        return [loss for loss in self.criteria.modules() if isinstance(loss, ClassMemory)]

    def copy_to_teachers(self) -> None:
        """There is none; called when weights of another run were loaded."""

    # -- forward ---------------------------------------------------------------------------------

    def forward(self, batched_inputs: dict[str, Any], views: Sequence[str] | None = None) -> Any:
        """Losses by name in training, features (B, D) by view in evaluation.

        Args:
            batched_inputs: a batch of the loader.
            views: in evaluation, those that are wanted; None: all.
        """
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            return self.outputs(images, views=views)
        targets, weights = self.supervision(batched_inputs)
        return self.losses(self.outputs(images, targets), targets, weights)

    def preprocess_image(self, batched_inputs: dict[str, Any] | torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) images, normalised; the batch itself is not changed."""
        images: Any = batched_inputs
        if isinstance(batched_inputs, dict):
            images = batched_inputs["images"]
        return (images.to(self.device) - self.pixel_mean) / self.pixel_std

    def supervision(
        self, batched_inputs: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """The (B,) targets by view, and (B,) weights or None.

        The batch holds targets of shape (B,) for one view, (B, V) in the order of the views.
        """
        targets = batched_inputs["targets"].to(self.device)
        by_view = targets.reshape(len(targets), -1).unbind(dim=1)
        weights = batched_inputs.get("weights")
        weights = None if weights is None else weights.to(self.device)
        return dict(zip(self.views, by_view, strict=True)), weights

    def outputs(
        self,
        images: torch.Tensor,
        targets: Mapping[str, torch.Tensor] | None = None,
        views: Sequence[str] | None = None,
    ) -> Outputs:
        """What the head gives for normalised images (B, 3, H, W), for some or all views."""
        return self.heads(self.backbone(images), targets, views)

    @torch.no_grad()
    def update_statistics(self, batched_inputs: dict[str, Any]) -> None:
        """Forward unlabelled images for the running statistics of batch norm and nothing else."""
        images = self.preprocess_image(batched_inputs)
        no_class = torch.full((len(images),), -1, device=self.device)  # fast-reid's sign for it
        self.outputs(images, dict.fromkeys(self.views, no_class))

    def losses(
        self,
        outputs: Outputs,
        targets: Mapping[str, torch.Tensor],
        weights: torch.Tensor | None = None,
        teacher: Outputs | None = None,
    ) -> dict[str, torch.Tensor]:
        """The scaled losses of a batch, summed over the views, under the names of the log.

        Args:
            outputs: view -> outputs of this network.
            targets: view -> (B,).
            weights: (B,) trust in the labels.
            teacher: view -> outputs of the teacher, without gradient.
        """
        total: dict[str, torch.Tensor] = {}
        for view, losses in self.criteria.items():
            guide = None if teacher is None else teacher[view]
            for loss in losses.values():
                value = loss(outputs[view], targets[view], weights, guide)
                total[loss.label] = total.get(loss.label, 0) + value
        return total


def build_loss(name: str, losses_node: Any) -> nn.Module:
    """A registered loss with the arguments of its config node."""
    cls: Any = LOSSES.get(name)
    node = losses_node[cls.node]
    return LOSSES.build(name, **{key.lower(): value for key, value in node.items()})
