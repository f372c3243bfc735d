"""Batches in which an image has no positive, or no negative, or is the only one."""

import pytest
import torch

from fastreid_uda.modeling.losses import LOSSES
from tests.modeling.test_losses import make_loss, make_outputs


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("targets", [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 1], [2]])
def test_losses__and_gradients_are_finite_without_pairs(name, targets):
    torch.manual_seed(0)
    loss, outputs = make_loss(name, 4), make_outputs(len(targets), 4)
    outputs = {key: value.requires_grad_() for key, value in outputs.items()}
    taught = {key: value.detach() + 0.1 for key, value in outputs.items()}
    value = loss(outputs, torch.tensor(targets), None, taught)
    value.backward()
    assert torch.isfinite(value)
    gradients = [x.grad for x in outputs.values() if x.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
