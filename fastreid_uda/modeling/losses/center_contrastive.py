"""Center contrastive loss: classifies by a lookup table of class centers that the batches move."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ...errors import UserError
from .base import LOSSES, ClassMemory, weighted_mean


@LOSSES.register
class CenterContrastiveLoss(ClassMemory):
    """-log softmax_k(t V_k . f_r) at the own class, batch mean: NPLP's Eq. 10.

    f_r are the activated features. The table V starts in each round from the mean f_r of each
    class, has no gradient, and is moved after each step by every image of the batch in its order:
    V_y <- (V_y + f_r) / 2 (Eq. 11). The weights of labels scale the loss and not these moves.

    To the letter (`normalize` False, `logit_scale` 1) the equations have raw dot products. Of 1024
    values they are in the hundreds, so that the softmax is saturated. The loss comes from BUC,
    where f_r, the rows and the moved rows are L2-normalised and t is 10: the default.

    References: Liang and Lv, "NPLP: A Noisy Pseudo-Label Processing Approach for Unsupervised
    Domain-Adaptive Person Re-ID", Eq. 10 and 11. BUC: Lin et al., "A Bottom-Up Clustering Approach
    to Unsupervised Person Re-identification", AAAI 2019, reid/exclusive_loss.py:15-36.

    Args:
        scale: weight of the loss.
        normalize: whether f_r and the rows of the table are unit vectors.
        logit_scale: t, above 0; an inverse temperature.
    """

    node = "CENTER_CONTRASTIVE"
    label = "loss_center_contrastive"
    reads = ("activated",)
    uses_weights = True
    starts_from = "activated"

    def __init__(
        self, scale: float = 1.0, normalize: bool = True, logit_scale: float = 10.0
    ) -> None:
        super().__init__()
        if not logit_scale > 0:
            raise UserError(
                f"MODEL.LOSSES.CENTER_CONTRASTIVE.LOGIT_SCALE is {logit_scale}, but it must be "
                "above 0."
            )
        self.scale, self.normalize, self.logit_scale = scale, normalize, logit_scale

    def reset(self, num_classes: int, feature_dim: int, rows: torch.Tensor | None = None) -> None:
        """Start a table for new classes; the rows are normalised if the form is."""
        super().reset(num_classes, feature_dim, rows)
        self.table = self._unit(self.table)

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch; `outputs["activated"]` are (B, D), not normalised."""
        features = self._unit(outputs["activated"].float())
        self.remember(features, targets)
        # Without autocast, whose half precision is coarse for dot products in the hundreds.
        with torch.autocast(features.device.type, enabled=False):
            logits = self.logit_scale * F.linear(features, self.table)
        losses = F.cross_entropy(logits, targets, reduction="none")
        return self.scale * weighted_mean(losses, weights)

    @torch.no_grad()
    def update(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Move the row of each image's class half the way to it, image after image.

        Images of different classes do not meet, so the first of all classes are taken at once,
        then the second ones, and so on. `features` are f_r as `forward` remembered them.
        """
        same = targets[:, None] == targets
        earlier = same.tril(diagonal=-1).sum(dim=1)  # images of the own class before this one
        for number in range(int(earlier.max()) + 1):
            chosen = earlier == number
            classes = targets[chosen]
            self.table[classes] = self._unit((self.table[classes] + features[chosen]) / 2)

    def _unit(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows, L2-normalised in the normalised form; zero rows stay zero."""
        return F.normalize(rows) if self.normalize else rows
