"""A training batch that several processes share: tensors of all its images on each of them.

What a loss says of a batch must not depend on the number of processes. So the losses see the
outputs for all images, in rank order, and every process computes the same value; the gradient of
its own images comes back to each. `DistributedDataParallel` takes the mean of the processes'
gradients where the sum is needed, for which `gather` makes up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from fastreid.utils import comm
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shares:
    """How many images of a batch each process holds, and which process this is.

    Attributes:
        sizes: by rank, each 1 or more.
        rank: of this process.
    """

    sizes: tuple[int, ...]
    rank: int

    @property
    def total(self) -> int:
        """B, the images of the whole batch."""
        return sum(self.sizes)

    @property
    def own(self) -> slice:
        """The places of this process's images in the whole batch."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])


_shares: Shares | None = None


def share_batch(num_images: int) -> None:
    """Tell all processes how many images this one is about to forward in training."""
    global _shares
    sizes = comm.all_gather(num_images) if comm.get_world_size() > 1 else [num_images]
    _shares = Shares(tuple(sizes), comm.get_rank())


def shares_of(num_images: int) -> Shares:
    """The shares of the batch being forwarded, of which this process holds `num_images`."""
    if _shares is None or _shares.sizes[_shares.rank] != num_images:
        return Shares((num_images,), 0)  # a forward pass of one process by itself
    return _shares


class _Gather(torch.autograd.Function):
    """Rows of all processes, in rank order; backward: the gradient of the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, shares: Shares) -> torch.Tensor:
        ctx.shares = shares
        whole = rows.new_zeros(shares.total, *rows.shape[1:])
        whole[shares.own] = rows
        dist.all_reduce(whole)  # a sum with zeros: exact, and shares may differ in size
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient[ctx.shares.own] * len(ctx.shares.sizes), None


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows (b, ...) of all processes as (B, ...); `rows` itself if there is one process."""
    shares = shares_of(len(rows))
    return rows if len(shares.sizes) == 1 else _Gather.apply(rows, shares)


class SharedDropout(nn.Dropout):
    """Dropout whose mask is drawn for the whole batch: the same with any number of processes.

    The processes' generators have the same state; each takes the rows of its own images.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As torch's."""
        shares = shares_of(len(input))
        if not self.training or len(shares.sizes) == 1:
            return super().forward(input)
        mask = F.dropout(input.new_ones(shares.total, *input.shape[1:]), self.p)
        return input * mask[shares.own]
