"""What is taken away is compared with the run's network, on images and on noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import UserError

BATCHES = (2, 1, 5)
"""Sizes of the batches that are compared, so that one that is baked in shows. The first is that of
the example of exporters, which take a size of one for a constant."""


@dataclass(frozen=True)
class Check:
    """A batch and what the run's network gives for it.

    Attributes:
        images: (B, 3, H, W) RGB, 0..255.
        features: (B, D).
    """

    images: torch.Tensor
    features: torch.Tensor


@dataclass(frozen=True)
class Difference:
    """How far features are from those of the run's network.

    Attributes:
        relative: the largest length of a difference over the length of the feature.
        unit: the largest difference of any two numbers of L2-normalised features.
    """

    relative: float
    unit: float

    @property
    def largest(self) -> float:
        """The larger of the two."""
        return max(self.relative, self.unit)


def make_checks(images: torch.Tensor, network: nn.Module) -> list[Check]:
    """Batches of images, and of noise of the same shape, with a network's features.

    Args:
        images: (sum(BATCHES), 3, H, W) RGB, 0..255.
        network: takes a batch as the loader makes it.
    """
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 255
    batches = [*images.split(BATCHES), *noise.split(BATCHES)]
    with torch.no_grad():
        return [Check(batch, network({"images": batch.clone()})) for batch in batches]


def example_of(checks: Sequence[Check]) -> torch.Tensor:
    """The images of a batch to export by."""
    return checks[0].images


def measure(
    features: Callable[[torch.Tensor], torch.Tensor], checks: Sequence[Check]
) -> Difference:
    """The largest differences over all checks; infinite for other shapes and NaN.

    Args:
        features: (B, 3, H, W) RGB, 0..255 -> (B, D).
        checks: what is expected.
    """
    relative = unit = 0.0
    for check in checks:
        found, expected = features(check.images.clone()).double(), check.features.double()
        if found.shape != expected.shape or not torch.isfinite(found).all():
            return Difference(math.inf, math.inf)
        lengths = expected.norm(dim=1).clamp(min=1e-12)
        relative = max(relative, float(((found - expected).norm(dim=1) / lengths).max()))
        unit = max(unit, float((F.normalize(found) - F.normalize(expected)).abs().max()))
    return Difference(relative, unit)


def what_differs(difference: Difference, limit: float) -> str:
    """The figures of a difference that is not below a limit, as a clause; else empty."""
    if difference.largest < limit:
        return ""
    return (
        f"relative difference {difference.relative:.1e}, of L2-normalised features "
        f"{difference.unit:.1e}, but it must be below {limit:.0e}"
    )


def require_close(name: str, difference: Difference, limit: float) -> None:
    """Refuse what differs too much.

    Args:
        name: of the format, for the message.
        difference: that was measured.
        limit: what it must be below.

    Raises:
        UserError: with the figures.
    """
    figures = what_differs(difference, limit)
    if figures:
        raise UserError(
            f"The format {name} gives other features than the network ({figures}), so nothing is "
            "written; choose another --format."
        )


def reason_of(error: Exception) -> str:
    """What torch, onnx and onnxruntime say last, which is what went wrong, in one line."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {' '.join(lines[-1].split())[:160]}"
