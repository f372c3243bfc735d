"""fast-reid's own metric losses under their own names and keys."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fastreid.modeling import losses as fastreid_losses

from .base import LOSSES, Loss


class HostLoss(Loss):
    """A loss function of fast-reid on the features before the neck, (B, D).

    These functions know no sample weights: `weights` is not used.
    """

    reads = ("features",)
    function: Callable[..., torch.Tensor]

    def __init__(self, scale: float, *arguments: float | bool) -> None:
        super().__init__()
        self.scale, self.arguments = scale, arguments

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch."""
        # Without autocast: fast-reid's distance matrix is a product that it would run in half
        # precision even for float32 features.
        features = outputs["features"].float()
        with torch.autocast(features.device.type, enabled=False):
            return self.scale * type(self).function(features, targets, *self.arguments)


@LOSSES.register
class TripletLoss(HostLoss):
    """Batch-hard (or softly weighted) triplet loss; margin 0 is log(1 + exp(d_p - d_n)).

    Reference: Hermans et al., "In Defense of the Triplet Loss", arXiv 1703.07737.
    """

    node = "TRI"
    label = "loss_triplet"
    function = fastreid_losses.triplet_loss

    def __init__(
        self,
        margin: float = 0.3,
        norm_feat: bool = False,
        hard_mining: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__(scale, margin, norm_feat, hard_mining)


@LOSSES.register
class CircleLoss(HostLoss):
    """Pairwise circle loss (Sun et al., CVPR 2020)."""

    node = "CIRCLE"
    label = "loss_circle"
    function = fastreid_losses.pairwise_circleloss

    def __init__(self, margin: float = 0.25, gamma: float = 128, scale: float = 1.0) -> None:
        super().__init__(scale, margin, gamma)


@LOSSES.register
class Cosface(HostLoss):
    """Pairwise CosFace loss (Wang et al., CVPR 2018)."""

    node = "COSFACE"
    label = "loss_cosface"
    function = fastreid_losses.pairwise_cosface

    def __init__(self, margin: float = 0.25, gamma: float = 128, scale: float = 1.0) -> None:
        super().__init__(scale, margin, gamma)
