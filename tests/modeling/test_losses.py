import math

import numpy as np
import pytest
import torch

import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
from fastreid_uda.config import add_uda_config
from fastreid_uda.modeling.losses import LOSSES, ClassMemory
from fastreid_uda.modeling.losses.center import CenterLoss, center_loss
from fastreid_uda.modeling.losses.cross_entropy import cross_entropy, smoothed_targets


def test_smoothed_targets__golden_figures():
    mmt = smoothed_targets(torch.tensor([3]), 500, 0.1, "all")[0]
    assert float(mmt[3]) == pytest.approx(0.9002, abs=1e-6)
    assert float(mmt[0]) == pytest.approx(0.0002, abs=1e-7)
    host = smoothed_targets(torch.tensor([3]), 500, 0.1, "others")[0]
    assert float(host[3]) == pytest.approx(0.9, abs=1e-6)
    assert float(host[0]) == pytest.approx(0.000200401, abs=1e-9)


@pytest.mark.parametrize("smoothing", ["all", "others"])
def test_smoothed_targets__sum_to_one_also_with_one_class(smoothing):
    for classes in (1, 2, 7):
        soft = smoothed_targets(torch.zeros(3, dtype=torch.long), classes, 0.1, smoothing)
        assert soft.sum(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_cross_entropy__equals_a_loop():
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    soft = smoothed_targets(targets, 4, 0.1, "all")
    weights = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.25])
    expected = 0.0
    for i in range(5):
        total = sum(math.exp(z) for z in logits[i].tolist())
        for k in range(4):
            t = 0.9 * (k == targets[i]) + 0.1 / 4
            expected -= float(weights[i]) * float(t) * math.log(math.exp(logits[i, k]) / total)
    assert float(cross_entropy(logits, soft, weights)) == pytest.approx(expected / 5, rel=1e-5)


def test_cross_entropy_loss__with_fastreid_smoothing_equals_fastreid():
    from fastreid.modeling.losses import cross_entropy_loss

    torch.manual_seed(1)
    logits, targets = torch.randn(8, 5), torch.randint(5, (8,))
    for epsilon in (0.0, 0.1, -1.0):
        ours = LOSSES.build("CrossEntropyLoss", epsilon=epsilon, alpha=0.2, scale=0.7)
        host = cross_entropy_loss(logits, targets, epsilon, 0.2) * 0.7
        assert float(ours({"cls_outputs": logits}, targets)) == pytest.approx(float(host), rel=1e-5)


def test_triplet_loss__margin_zero_is_the_soft_margin_form():
    torch.manual_seed(2)
    features, targets = torch.randn(12, 6), torch.arange(12) // 4
    loss = LOSSES.build("TripletLoss", margin=0.0, hard_mining=True)
    distances = torch.cdist(features, features)
    expected = 0.0
    for i in range(12):
        same = targets == targets[i]
        gap = distances[i][same].max() - distances[i][~same].min()
        expected += math.log1p(math.exp(float(gap))) / 12
    assert float(loss({"features": features}, targets)) == pytest.approx(expected, rel=1e-4)


def make_loss(name, classes):
    loss = LOSSES.build(name)
    if isinstance(loss, ClassMemory):
        loss.reset(classes, 6)
    return loss


def make_outputs(size, classes):
    return {
        "features": torch.randn(size, 6),
        "activated": torch.randn(size, 6).relu(),
        "cls_outputs": torch.randn(size, classes),
        "pred_class_logits": torch.randn(size, classes),
    }


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss__is_finite_with_one_class_in_the_batch(name):
    loss, outputs = make_loss(name, 1), make_outputs(4, 1)
    assert torch.isfinite(loss(outputs, torch.zeros(4, dtype=torch.long), None, outputs))


def test_losses__that_need_a_teacher_say_so_and_the_others_ignore_it():
    assert [name for name in LOSSES if LOSSES.get(name).needs_teacher] == [
        "INCLRLoss",
        "SoftCrossEntropyLoss",
        "SoftTripletLoss",
    ]
    targets, outputs = torch.arange(8) // 2, make_outputs(8, 4)
    for name in LOSSES:
        loss = make_loss(name, 4)
        if not loss.needs_teacher:
            assert torch.equal(loss(outputs, targets), loss(outputs, targets, None, {}))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss__says_whether_it_uses_weights(name):
    torch.manual_seed(0)
    loss, targets = make_loss(name, 4), torch.arange(8) // 2
    outputs, teacher = make_outputs(8, 4), make_outputs(8, 4)
    plain = loss(outputs, targets, None, teacher)
    half = loss(outputs, targets, torch.full((8,), 0.5), teacher)
    expected = plain / 2 if loss.uses_weights else plain
    assert float(half) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss__reads_what_it_says_and_nothing_else(name):
    torch.manual_seed(0)
    loss, targets, outputs = make_loss(name, 4), torch.arange(8) // 2, make_outputs(8, 4)
    read = {key: outputs[key] for key in loss.reads}
    everything = loss(outputs, targets, None, outputs)
    assert torch.equal(loss(read, targets, None, outputs), everything)
    for key in loss.reads:
        with pytest.raises(KeyError, match=key):
            loss({k: v for k, v in outputs.items() if k != key}, targets, None, outputs)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss__has_a_node_with_its_arguments(name):
    from fastreid.config import get_cfg

    cfg = get_cfg()
    add_uda_config(cfg)
    loss = LOSSES.get(name)
    keys = {key.lower() for key in cfg.MODEL.LOSSES[loss.node]}
    assert keys == set(LOSSES.defaults(name))


def test_center_loss__pulls_features_and_equals_a_loop():
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    centers = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    loss = center_loss(features, centers)
    assert float(loss.detach()) == pytest.approx((1 + 1) / 2)
    loss.backward()
    assert features.grad.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_center_update__is_one_sgd_step_of_the_unscaled_loss():
    torch.manual_seed(3)
    loss = CenterLoss(scale=0.005, lr=0.5)
    loss.reset(4, 3)
    features, targets = torch.randn(6, 3), torch.tensor([0, 0, 2, 2, 2, 3])
    centers = loss.table.clone().requires_grad_()
    center_loss(features, centers[targets]).backward()
    expected = (centers - 0.5 * centers.grad).detach()
    loss({"features": features}, targets)
    loss.update(*loss.take_batch())
    assert loss.table.numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert loss.take_batch() is None


def test_center_table__is_in_the_checkpoint():
    loss = CenterLoss()
    loss.reset(3, 2)
    assert list(loss.state_dict()) == ["table"]


def test_unknown_loss__names_the_key():
    with pytest.raises(ValueError, match=r"MODEL\.LOSSES\.NAME is 'TripleLoss'"):
        LOSSES.build("TripleLoss")


def test_losses__gradients_match_finite_differences():
    features = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    centers = torch.randn(4, 3, dtype=torch.float64)
    weights = torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: center_loss(x, centers, weights), (features,))
    assert np.isfinite(float(center_loss(features, centers).detach()))
