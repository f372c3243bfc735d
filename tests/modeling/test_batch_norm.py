"""Batch norm over groups of the whole batch; two processes are in tests/faults/test_t11_*.py."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastreid_uda.modeling import batch_norm, whole_batch
from fastreid_uda.modeling.batch_norm import (
    GroupedBatchNorm,
    group_bounds,
    is_aligned,
    make_independent_of_processes,
)
from fastreid_uda.modeling.whole_batch import SharedDropout, Shares, share_batch


def by_loop(x, layer, sizes):
    """The output, and the means of the groups' means and unbiased variances."""
    parts = x.split(sizes)
    y = [F.batch_norm(p, None, None, layer.weight, layer.bias, True, 0.1, layer.eps) for p in parts]
    pixels = [p.transpose(0, 1).flatten(1) for p in parts]
    means = torch.stack([p.mean(dim=1) for p in pixels])
    return torch.cat(y), means.mean(dim=0), torch.stack([p.var(dim=1) for p in pixels]).mean(dim=0)


def make_layer(group):
    layer = GroupedBatchNorm(group, nn.BatchNorm2d(3))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 3.0]))
    return layer


@pytest.mark.parametrize(
    "total,group,bounds",
    [
        (64, 16, [0, 16, 32, 48, 64]),
        (64, 0, [0, 64]),
        (12, 16, [0, 12]),
        (56, 16, [0, 18, 37, 56]),  # no group is smaller than asked for
        (32, 32, [0, 32]),
    ],
)
def test_groups__are_even_and_not_smaller_than_asked_for(total, group, bounds):
    assert list(group_bounds(total, group)) == bounds


@pytest.mark.parametrize("shape", [(8, 3, 4, 2), (8, 3)])
def test_one_group__is_torch_bit_for_bit(shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    plain, ours = nn.BatchNorm2d(3), make_layer(0)
    plain.load_state_dict(ours.state_dict())
    wanted = plain(x if x.dim() == 4 else x[..., None, None]).reshape(shape)
    assert torch.equal(ours(x), wanted)
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), ours.buffers(), strict=True))
    assert torch.equal(ours.eval()(x), plain.eval()(x.reshape(8, 3, -1, 1)).reshape(shape))


@pytest.mark.parametrize("total,group,sizes", [(8, 4, [4, 4]), (7, 2, [2, 2, 3]), (9, 4, [4, 5])])
def test_groups__are_normalised_by_themselves(total, group, sizes):
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(total, 3, 4, 2)
    layer = make_layer(group)
    wanted, mean, variance = by_loop(x, layer, sizes)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * variance)
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("shape", [(7, 3, 4, 2), (7, 3)])
def test_across_processes__forward_and_backward_are_those_of_the_loop(monkeypatch, shape):
    monkeypatch.setattr(batch_norm.dist, "all_reduce", lambda tensor: None)
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(shape)).requires_grad_()
    layer, factors = make_layer(3), torch.randn(shape)
    wanted, mean, variance = by_loop(x, layer, [3, 4])
    (wanted * factors).sum().backward()
    expected = [x.grad.clone(), layer.weight.grad.clone(), layer.bias.grad.clone()]
    for tensor in (x, layer.weight, layer.bias):
        tensor.grad = None
    found, means, variances = batch_norm._AcrossProcesses.apply(
        x, layer.weight, layer.bias, layer.eps, Shares((7,), 0), group_bounds(7, 3)
    )
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(means.mean(dim=0), mean)
    torch.testing.assert_close(variances.mean(dim=0), variance)
    (found * factors).sum().backward()
    for got, want in zip((x.grad, layer.weight.grad, layer.bias.grad), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_across_processes__half_precision_is_widened(monkeypatch):
    monkeypatch.setattr(batch_norm.dist, "all_reduce", lambda tensor: None)
    monkeypatch.setattr(whole_batch, "_shares", Shares((4, 4), 0))
    monkeypatch.setattr(batch_norm, "group_bounds", lambda total, group: (0, 3, 8))
    torch.manual_seed(0)
    x, layer = 300 + torch.randn(4, 3, 8, 8), make_layer(3)
    plain = layer(x)
    with torch.autocast("cpu"):
        assert torch.equal(layer(x), plain)
        half = layer(x.bfloat16())
    assert half.dtype == torch.bfloat16 and half.isfinite().all()


@pytest.mark.parametrize("sizes,aligned", [((4, 4), True), ((8, 8), True), ((3, 5), False)])
def test_groups__of_one_process_each_need_no_exchange(sizes, aligned):
    assert is_aligned(Shares(sizes, 0), group_bounds(sum(sizes), 4)) is aligned


def test_network__keeps_its_tensors_and_says_what_it_does():
    frozen = nn.BatchNorm2d(3).requires_grad_(False)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(frozen, nn.Dropout(0.3))).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    make_independent_of_processes(network, 4)
    layer, dropout = network[1]
    assert type(layer) is GroupedBatchNorm and layer.group == 4 and not layer.training
    assert not layer.weight.requires_grad
    assert type(dropout) is SharedDropout and dropout.p == 0.3 and not dropout.training
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())


def test_dropout__of_shares_is_that_of_the_whole_batch(monkeypatch):
    layer, x = SharedDropout(0.5), torch.randn(7, 5)
    torch.manual_seed(1)
    whole = layer(x)
    parts = []
    for rank, rows in enumerate((slice(0, 3), slice(3, 7))):
        monkeypatch.setattr(whole_batch, "_shares", Shares((3, 4), rank))
        torch.manual_seed(1)
        parts.append(layer(x[rows]))
    torch.testing.assert_close(torch.cat(parts), whole)


def test_share__of_another_batch_is_not_used(monkeypatch):
    monkeypatch.setattr(whole_batch, "_shares", Shares((3, 4), 1))
    assert whole_batch.shares_of(4).total == 7
    assert whole_batch.shares_of(5) == Shares((5,), 0)
    share_batch(6)
    assert whole_batch.shares_of(6) == Shares((6,), 0)
