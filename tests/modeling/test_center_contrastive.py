import math

import numpy as np
import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.errors import UserError
from fastreid_uda.modeling.losses.center_contrastive import CenterContrastiveLoss

FORMS = {"normalised": (True, 10.0), "literal": (False, 1.0)}


def make_loss(form, rows, scale=1.0):
    normalize, logit_scale = FORMS[form]
    loss = CenterContrastiveLoss(scale=scale, normalize=normalize, logit_scale=logit_scale)
    loss.reset(*rows.shape, rows)
    return loss


def make_batch(size=8, classes=4, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(classes, dim, generator=generator)
    features = torch.randn(size, dim, generator=generator).relu()
    return rows, features, torch.randint(classes, (size,), generator=generator)


def unit(row):
    return row / np.linalg.norm(row)


def loss_by_loop(form, rows, features, targets, weights):
    normalize, logit_scale = FORMS[form]
    total = 0.0
    for feature, target, weight in zip(features, targets, weights, strict=True):
        if normalize:
            feature = unit(feature)
        logits = [logit_scale * float((unit(v) if normalize else v) @ feature) for v in rows]
        total -= weight * (logits[target] - math.log(sum(math.exp(z) for z in logits)))
    return total / len(targets)


def update_by_loop(form, rows, features, targets):
    normalize = FORMS[form][0]
    rows = [unit(row) if normalize else row for row in rows]
    for feature, target in zip(features, targets, strict=True):
        row = (rows[target] + (unit(feature) if normalize else feature)) / 2
        rows[target] = unit(row) if normalize else row
    return np.stack(rows)


@pytest.mark.parametrize("form", FORMS)
def test_loss__equals_a_loop(form):
    rows, features, targets = make_batch()
    weights = torch.linspace(0, 1, 8)
    loss = make_loss(form, rows, scale=0.7)
    arrays = [x.double().numpy() for x in (rows, features)]
    for given in (None, weights):
        trust = np.ones(8) if given is None else given.double().numpy()
        expected = 0.7 * loss_by_loop(form, *arrays, targets.numpy(), trust)
        ours = loss({"activated": features}, targets, given)
        assert float(ours) == pytest.approx(expected, rel=1e-5)


def test_loss__golden_figure_of_the_literal_form():
    loss = make_loss("literal", torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    features, targets = torch.tensor([[1.0, 3.0]]), torch.tensor([0])  # logits 2 and 3
    assert float(loss({"activated": features}, targets)) == pytest.approx(math.log1p(math.e))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes,size", [(1, 6), (4, 16), (16, 16), (3, 1)])
def test_update__equals_a_loop_over_the_images_in_their_order(form, classes, size):
    rows, features, targets = make_batch(size, classes)
    loss = make_loss(form, rows)
    loss({"activated": features}, targets)
    loss.update(*loss.take_batch())
    arrays = [x.double().numpy() for x in (rows, features)]
    expected = update_by_loop(form, *arrays, targets.numpy())
    np.testing.assert_allclose(loss.table.numpy(), expected, atol=1e-6)


def test_update__the_last_image_of_a_class_weighs_most():
    loss = make_loss("literal", torch.zeros(2, 3))
    loss({"activated": torch.eye(3)}, torch.tensor([1, 1, 1]))
    loss.update(*loss.take_batch())
    assert loss.table.tolist() == [[0.0, 0.0, 0.0], [0.125, 0.25, 0.5]]


def test_table__has_no_gradient_and_the_features_have():
    rows, features, targets = make_batch()
    features.requires_grad_()
    loss = make_loss("normalised", rows)
    loss({"activated": features}, targets).backward()
    assert not loss.table.requires_grad and list(loss.parameters()) == []
    assert features.grad.abs().sum() > 0
    remembered, _ = loss.take_batch()
    assert not remembered.requires_grad


@pytest.mark.parametrize("form", FORMS)
def test_gradient__matches_finite_differences(form):
    rows, features, targets = make_batch()
    loss = make_loss(form, rows)
    features = features.requires_grad_()
    loss({"activated": features}, targets).backward()
    step = 1e-3
    for i, j in ((0, 0), (3, 4), (7, 2)):
        moved = features.detach().double()
        values = []
        for sign in (1, -1):
            shifted = moved.clone()
            shifted[i, j] += sign * step
            arrays = (rows.double().numpy(), shifted.numpy(), targets.numpy(), np.ones(8))
            values.append(loss_by_loop(form, *arrays))
        expected = (values[0] - values[1]) / (2 * step)
        assert float(features.grad[i, j]) == pytest.approx(expected, abs=1e-4)


def test_reset__rows_are_unit_in_the_normalised_form_and_copied():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert make_loss("normalised", rows).table.tolist() == [
        pytest.approx([0.6, 0.8]),
        [0.0, 0.0],
    ]
    literal = make_loss("literal", rows)
    literal.table += 1
    assert rows.tolist() == [[3.0, 4.0], [0.0, 0.0]]


def test_autocast__keeps_the_precision_of_the_logits():
    rows, features, targets = make_batch(dim=64)
    loss = make_loss("literal", 20 * rows)
    plain = loss({"activated": features}, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss({"activated": features}, targets), plain)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_logit_scale__that_turns_or_hides_the_order_is_refused(value):
    with pytest.raises(UserError, match=f"LOGIT_SCALE is {value}, but it must be above 0"):
        CenterContrastiveLoss(logit_scale=value)
