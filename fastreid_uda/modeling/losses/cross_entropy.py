"""Cross-entropy with label smoothing, in fast-reid's and in MMT's form."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .base import LOSSES, Loss, weighted_mean


@LOSSES.register
class CrossEntropyLoss(Loss):
    """-sum_k t_k log softmax(z)_k, batch mean; see `smoothed_targets` for t.

    Args:
        epsilon: smoothed mass in [0, 1); negative: adaptive, `alpha` times the probability that the
            network gives the right class (fast-reid's rule).
        alpha: factor of the adaptive rule.
        scale: weight of the loss.
        smoothing: `others` (fast-reid) or `all` (MMT).
    """

    node = "CE"
    label = "loss_cls"
    reads = ("cls_outputs",)
    uses_weights = True

    def __init__(
        self,
        epsilon: float = 0.0,
        alpha: float = 0.2,
        scale: float = 1.0,
        smoothing: str = "others",
    ) -> None:
        super().__init__()
        self.epsilon, self.alpha, self.scale, self.smoothing = epsilon, alpha, scale, smoothing

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch; `outputs["cls_outputs"]` are the logits (B, K)."""
        logits = outputs["cls_outputs"].float()
        epsilon: float | torch.Tensor = self.epsilon
        if self.epsilon < 0:
            right = logits.softmax(dim=1).gather(1, targets[:, None])
            epsilon = (self.alpha * right).detach()
        soft = smoothed_targets(targets, logits.size(1), epsilon, self.smoothing)
        return self.scale * cross_entropy(logits, soft, weights)


def cross_entropy(
    logits: torch.Tensor, soft_targets: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """-sum_k t_k log softmax(z)_k, averaged over the batch.

    Args:
        logits: (B, K).
        soft_targets: (B, K), rows sum to 1.
        weights: (B,) trust in each label; the mean stays over B, so a doubtful label counts less.
    """
    losses = -(soft_targets * F.log_softmax(logits, dim=1)).sum(dim=1)
    return weighted_mean(losses, weights)


def smoothed_targets(
    targets: torch.Tensor, num_classes: int, epsilon: float | torch.Tensor, smoothing: str
) -> torch.Tensor:
    """(B, K) target distributions.

    `all` (MMT, and the paper that introduced label smoothing): 1 - e on the right class plus e / K
    on every class, the right one too. `others` (fast-reid): 1 - e on the right class and
    e / (K - 1) on each other one. A single class has probability 1 in both.

    Args:
        targets: (B,) int64 in [0, K).
        num_classes: K.
        epsilon: e, a number or (B, 1).
        smoothing: `all` or `others`.
    """
    right = F.one_hot(targets, num_classes).float()
    if num_classes == 1:
        return right
    if smoothing == "all":
        return (1 - epsilon) * right + epsilon / num_classes
    return (1 - epsilon) * right + epsilon / (num_classes - 1) * (1 - right)
