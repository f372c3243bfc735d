"""The registry of losses, what they share, and the losses that keep one vector per class."""

from __future__ import annotations

import torch
from torch import nn

from ...registry import LOSSES as LOSSES


class Loss(nn.Module):
    """A loss as this package's docstring describes it.

    Attributes:
        node: its config node is `MODEL.LOSSES.<node>`.
        label: its name in the log.
        reads: the names of the outputs of the network that it looks at, no others. A head must
            give them, and a classifier whose logits are in no loss of its view is not trained.
        needs_teacher: it compares with a mean teacher and cannot be used without one.
        uses_weights: it multiplies each image by the weight of its label.
    """

    node: str
    label: str
    reads: tuple[str, ...]
    needs_teacher = False
    uses_weights = False

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch, a scalar."""
        raise NotImplementedError


def weighted_mean(losses: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The mean over B of (B,) losses times (B,) weights: a doubtful label counts less."""
    return (losses if weights is None else losses * weights).mean()


class ClassMemory(Loss):
    """A table with one row per class, moved by the batches and not by the optimiser.

    A subclass computes its loss against `table`, remembers the batch with `remember`, and moves the
    rows in `update`, which the trainer calls after each optimiser step. The table is a buffer: it
    is in the checkpoint.

    Attributes:
        starts_from: the kind of features whose class means are the first rows of a round, such as
            `activated`; "" for a table that starts at random.
        table: (K, D) float32; empty before the first `reset`.
    """

    starts_from = ""
    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(0, 0))
        self._batch: tuple[torch.Tensor, torch.Tensor] | None = None

    def reset(self, num_classes: int, feature_dim: int, rows: torch.Tensor | None = None) -> None:
        """Start a table for new classes.

        Args:
            num_classes: K.
            feature_dim: D.
            rows: (K, D) the table; None: drawn from N(0, 1).
        """
        if rows is None:
            rows = torch.randn(num_classes, feature_dim)
        self.table = rows.to(self.table, copy=True)
        self._batch = None

    def remember(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Keep the batch, (B, D) features and (B,) targets, for `update`."""
        self._batch = (features.detach(), targets)

    def take_batch(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The batch of the last forward pass, given out once."""
        batch, self._batch = self._batch, None
        return batch

    def update(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Move the rows of the classes of a batch; the batch of all processes, in rank order."""
        raise NotImplementedError
