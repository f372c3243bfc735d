"""Soft cross-entropy: the student predicts what the teacher predicts."""

from __future__ import annotations

import torch

from .base import LOSSES, Loss
from .cross_entropy import cross_entropy


@LOSSES.register
class SoftCrossEntropyLoss(Loss):
    """-sum_k softmax(z_teacher)_k log softmax(z_student)_k, batch mean, logits without margin.

    P2LR's KL(teacher || student) is this value minus the entropy of the teacher's prediction: the
    gradient is the same, only the logged number differs.

    Reference: Ge, Chen, Li, "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain
    Adaptation on Person Re-identification", ICLR 2020, https://arxiv.org/abs/2001.01526;
    MMT:mmt/loss/crossentropy.py. Also used by SECRET (He et al., AAAI 2022).

    Args:
        scale: weight of the loss.
    """

    node = "SOFT_CE"
    label = "loss_soft_cls"
    reads = ("pred_class_logits",)
    needs_teacher = True
    uses_weights = True

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch; `targets` are not used."""
        assert teacher is not None  # needs_teacher
        soft = teacher["pred_class_logits"].detach().float().softmax(dim=1)
        return self.scale * cross_entropy(outputs["pred_class_logits"].float(), soft, weights)
