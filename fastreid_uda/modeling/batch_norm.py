"""Batch norm over groups of images of the whole batch, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from fastreid.layers.batch_norm import BatchNorm, SyncBatchNorm
from fastreid.utils import comm
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .whole_batch import SharedDropout, Shares, shares_of

_PLAIN = (BatchNorm, SyncBatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
"""The layers that are replaced; fast-reid's others (GhostBN, FrozenBN) mean what they say."""


class GroupedBatchNorm(_BatchNorm):
    """Batch norm of groups of neighbouring images of the whole batch.

    With `group` G and a batch of B images over all processes there are max(1, floor(B / G)) groups,
    of equal size as far as possible; 0: the batch is one group. MMT, SECRET and P2LR are published
    with 64 images on four GPUs without synchronisation, which is G = 16; here it is 16 on any
    number of devices. A group may reach over several processes.

    The running statistics move by the mean over all groups. Each process moves its own by its share
    in that mean; `average_statistics` brings them together.

    Args:
        group: G.
        like: the layer to take parameters and buffers of.
    """

    def __init__(self, group: int, like: _BatchNorm) -> None:
        super().__init__(
            like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats
        )
        self.group = group
        self.weight, self.bias = like.weight, like.bias
        for name, value in like.named_buffers(recurse=False):
            setattr(self, name, value)
        self.train(like.training)

    def extra_repr(self) -> str:
        """The layer's arguments."""
        return f"{super().extra_repr()}, group={self.group}"

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected 2 or more dimensions, got {input.dim()}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(b, C, ...) of this process."""
        shares = shares_of(len(input))
        bounds = group_bounds(shares.total, self.group)
        if not self.training or (len(shares.sizes) == 1 and len(bounds) == 2):
            return super().forward(input)
        if is_aligned(shares, bounds):
            return self._by_own_groups(input, shares, bounds)
        # Without autocast, which would multiply sums of pixels in half precision.
        with torch.autocast(input.device.type, enabled=False):
            output, means, variances = _AcrossProcesses.apply(
                input, self.weight, self.bias, self.eps, shares, bounds
            )
        self._move(means.mean(dim=0), variances.mean(dim=0), 1.0)
        return output

    def _by_own_groups(
        self, input: torch.Tensor, shares: Shares, bounds: Sequence[int]
    ) -> torch.Tensor:
        """Every group is of one process."""
        own = shares.own
        inner = [bound for bound in bounds if own.start <= bound <= own.stop]
        sizes = [stop - start for start, stop in pairwise(inner)]
        means, variances = self.running_mean.new_zeros(2, len(sizes), self.num_features)
        parts = [
            F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for part, mean, variance in zip(input.split(sizes), means, variances, strict=True)
        ]
        # The mean over the processes of what they add is the mean over all groups.
        share = len(sizes) * len(shares.sizes) / (len(bounds) - 1)
        self._move(means.mean(dim=0), variances.mean(dim=0), share)
        return torch.cat(parts)

    @torch.no_grad()
    def _move(self, mean: torch.Tensor, variance: torch.Tensor, share: float) -> None:
        self.num_batches_tracked.add_(1)
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running.mul_(1 - self.momentum).add_(new, alpha=share * self.momentum)


class _AcrossProcesses(torch.autograd.Function):
    """Batch norm where a group has images of several processes: y = w (x - m_g) / s_g + b.

    Also gives the (G, C) means and unbiased variances of all groups. Half precision is widened.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
        shares: Shares,
        bounds: tuple[int, ...],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        member, images = _members(shares, bounds, x.device, wide)
        count = images * x[0, 0].numel()
        values = x.to(wide).flatten(2) if x.dim() > 2 else x.to(wide)[..., None]
        means = _summed(member, values) / count
        centered = values - (member.T @ means)[..., None]
        variances = _summed(member, centered.square()) / count
        scales = (variances + eps).rsqrt()
        unit = centered * (member.T @ scales)[..., None]
        ctx.save_for_backward(unit, scales, weight, member, count)
        y = unit * weight[:, None] + bias[:, None]
        unbiased = variances * count / (count - 1).clamp(min=1)
        ctx.mark_non_differentiable(means, unbiased)
        # No view, because what follows may write into it.
        return torch.empty_like(x).copy_(y.reshape(x.shape)), means, unbiased

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        unit, scales, weight, member, count = ctx.saved_tensors
        dy = gradient.to(unit.dtype).reshape(unit.shape)
        along = dy * unit
        # The parameters' own share; the gradients of all processes are summed elsewhere.
        of_bias, of_weight = dy.sum(dim=(0, 2)), along.sum(dim=(0, 2))
        sums = _summed(torch.block_diag(member, member), torch.cat([dy, along])) / count.repeat(
            2, 1
        )
        mean_dy, mean_along = (member.T @ part for part in sums.chunk(2))
        dx = (dy - mean_dy[..., None] - unit * mean_along[..., None]) * weight[:, None]
        dx = dx * (member.T @ scales)[..., None]
        return dx.reshape(gradient.shape).to(gradient.dtype), of_weight, of_bias, None, None, None


@lru_cache(maxsize=16)
def _members(
    shares: Shares, bounds: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(G, b): 1 where an image of this process is of a group, else 0; (G, 1) images of a group."""
    places = torch.arange(shares.own.start, shares.own.stop)
    starts, stops = torch.tensor(bounds[:-1])[:, None], torch.tensor(bounds[1:])[:, None]
    member = (starts <= places) & (places < stops)
    return member.to(device, dtype), (stops - starts).to(device, dtype)


def _summed(member: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(G, C) sums over images and pixels of (b, C, P), of all processes."""
    sums = member @ values.sum(dim=2)
    dist.all_reduce(sums)
    return sums


def group_bounds(total: int, group: int) -> tuple[int, ...]:
    """Where the groups of a batch begin, and its end.

    Args:
        total: B.
        group: G; 0: one group.
    """
    number = max(1, total // group) if group else 1
    return tuple(n * total // number for n in range(number + 1))


def is_aligned(shares: Shares, bounds: Sequence[int]) -> bool:
    """Whether every group is of one process."""
    starts = [sum(shares.sizes[:rank]) for rank in range(len(shares.sizes))]
    return set(starts) <= set(bounds)


def make_independent_of_processes(network: nn.Module, group: int) -> None:
    """Replace the layers whose result would depend on how a batch is shared, in place.

    Args:
        network: whose batch norm and dropout layers are replaced.
        group: of `GroupedBatchNorm`.
    """
    for name, child in network.named_children():
        if type(child) in _PLAIN:
            setattr(network, name, GroupedBatchNorm(group, child))
        elif type(child) is nn.Dropout:
            setattr(network, name, SharedDropout(child.p).train(child.training))
        else:
            make_independent_of_processes(child, group)


@torch.no_grad()
def average_statistics(network: nn.Module) -> None:
    """Make the running statistics of all processes their mean."""
    if comm.get_world_size() == 1:
        return
    statistics = [
        statistic
        for module in network.modules()
        if isinstance(module, GroupedBatchNorm)
        for statistic in (module.running_mean, module.running_var)
    ]
    flat = torch.cat(statistics)
    dist.all_reduce(flat)
    flat /= comm.get_world_size()
    for statistic, mean in zip(statistics, flat.split([len(s) for s in statistics]), strict=True):
        statistic.copy_(mean)
