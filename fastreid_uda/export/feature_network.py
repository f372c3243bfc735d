"""The network as it is taken away: images in, one feature per image out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import UserError
from ..evaluation.evaluated_network import join_views
from ..modeling.meta_arch.uda_baseline import UDABaseline


class FeatureNetwork(nn.Module):
    """(B, 3, H, W) float32 RGB images -> (B, D) features, as the run tests them.

    Args:
        network: in evaluation mode.
        views: that are tested; several are joined by `join_views`.
        eta: `TEST.ETA`.
        normalize: whether images are 0..255 and normalised here, or normalised already.
        unit: whether the features are divided by their lengths.
    """

    def __init__(
        self,
        network: UDABaseline,
        views: Sequence[str],
        eta: float,
        *,
        normalize: bool = True,
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.views, self.eta = network, tuple(views), eta
        self.normalize, self.unit = normalize, unit
        self.register_buffer("mean", network.pixel_mean.clone())
        self.register_buffer("std", network.pixel_std.clone())
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, D) features."""
        if self.normalize:
            images = (images - self.mean) / self.std
        outputs = self.network.outputs(images, views=self.views)
        features = join_views(outputs, self.views, self.eta)
        return F.normalize(features) if self.unit else features


def check_views(option: str, views: Sequence[str], network: UDABaseline) -> None:
    """Refuse views that a network does not have, or has but once.

    Raises:
        UserError: naming the option or key.
    """
    unknown = [view for view in views if view not in network.views]
    if not views or unknown or len(set(views)) < len(views):
        known = ", ".join(network.views)
        raise UserError(
            f"{option} is {','.join(views) or 'empty'}, but the views of this network are {known}; "
            "name one or more of them, each once."
        )
