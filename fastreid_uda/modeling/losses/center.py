"""Center loss: pulls features to one learned center per class."""

from __future__ import annotations

import torch

from .base import LOSSES, ClassMemory, weighted_mean


@LOSSES.register
class CenterLoss(ClassMemory):
    """L_c = 1/B sum_i ||f_i - c_{y_i}||^2, with centers that follow by gradient descent.

    The centers start from N(0, 1) and take one SGD step per batch, with the gradient of the
    unscaled loss, as in the strong baseline that MSPLR builds on (learning rate 0.5). That step has
    a closed form, so the centers are a `ClassMemory` and need no optimiser of their own:
    c_k <- c_k - lr * 2/B * sum_{i: y_i = k} (c_k - f_i).

    Reference: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition",
    ECCV 2016; weight 0.005 from MSPLR, Eq. 5. Its sentence says "the same that was used in [21]",
    where the value is 0.0005; the equation is the default here.

    Args:
        scale: weight of the loss.
        lr: learning rate of the centers.
    """

    node = "CENTER"
    label = "loss_center"
    reads = ("features",)
    uses_weights = True

    def __init__(self, scale: float = 0.005, lr: float = 0.5) -> None:
        super().__init__()
        self.scale, self.lr = scale, lr

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch; `outputs["features"]` are (B, D), not normalised."""
        features = outputs["features"].float()
        self.remember(features, targets)
        return self.scale * center_loss(features, self.table[targets], weights)

    @torch.no_grad()
    def update(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """One SGD step of the centers."""
        differences = self.table[targets] - features
        step = torch.zeros_like(self.table).index_add_(0, targets, differences)
        self.table -= self.lr * 2 / len(targets) * step


def center_loss(
    features: torch.Tensor, centers: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared Euclidean distance between (B, D) features and their (B, D) centers."""
    losses = (features - centers).square().sum(dim=1)
    return weighted_mean(losses, weights)
