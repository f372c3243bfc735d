import pytest
import torch
from torch.nn import functional as F

from fastreid_uda.errors import UserError
from tests.modeling.test_multi_view_head import make_batch, make_network

PARTS = "MODEL.LOSSES.PARTS"
THREE = ["MODEL.HEADS.PARTS.NAMES", "('part1', 'part2', 'part3')",
         "MODEL.HEADS.PARTS.BOTTLENECK", "False"]  # fmt: skip
BOTH = "('CrossEntropyLoss', 'TripletLoss')"


def losses_of_batch(network, weights=None):
    """The network's losses, and those of each view and name, with the scales of the nodes."""
    torch.manual_seed(0)
    batch = make_batch(4)
    targets, _ = network.supervision(batch)
    outputs = network.outputs(network.preprocess_image(batch), targets)
    total = network.losses(outputs, targets, weights)
    single = {
        (view, name): float(loss(outputs[view], targets[view], weights).detach())
        for view, losses in network.criteria.items()
        for name, loss in losses.items()
    }
    return {label: float(value.detach()) for label, value in total.items()}, single


def test_parts__have_the_losses_of_the_global_view_by_default():
    network = make_network(*THREE)
    assert {view: tuple(losses) for view, losses in network.criteria.items()} == dict.fromkeys(
        network.views, ("CrossEntropyLoss", "TripletLoss")
    )
    total, single = losses_of_batch(network)
    for label, name in (("loss_cls", "CrossEntropyLoss"), ("loss_triplet", "TripletLoss")):
        expected = sum(single[view, name] for view in network.views)
        assert total[label] == pytest.approx(expected, rel=1e-6)


def test_parts__names_of_their_own():
    network = make_network(*THREE, f"{PARTS}.NAME", "('CrossEntropyLoss',)")
    assert {view: tuple(losses) for view, losses in network.criteria.items()} == {
        "global": ("CrossEntropyLoss", "TripletLoss"),
        "part1": ("CrossEntropyLoss",),
        "part2": ("CrossEntropyLoss",),
        "part3": ("CrossEntropyLoss",),
    }
    total, single = losses_of_batch(network)
    assert total["loss_triplet"] == pytest.approx(single["global", "TripletLoss"], rel=1e-6)


@pytest.mark.parametrize("names", ["()", BOTH])
def test_parts__scales_replace_those_of_the_nodes(names):
    network = make_network(
        *THREE, f"{PARTS}.NAME", names, f"{PARTS}.SCALES", "(1.0, 0.25)",
        "MODEL.LOSSES.CE.SCALE", "0.5", "MODEL.LOSSES.TRI.SCALE", "0.2",
    )  # fmt: skip
    for view, losses in network.criteria.items():
        scales = (0.5, 0.2) if view == "global" else (1.0, 0.25)
        assert tuple(loss.scale for loss in losses.values()) == scales


def test_parts__mean_and_sum_against_losses_summed_by_hand():
    overrides = [*THREE, f"{PARTS}.NAME", "('CrossEntropyLoss',)", f"{PARTS}.SCALES", "(1.0,)",
                 "MODEL.LOSSES.CE.SCALE", "0.5", "MODEL.LOSSES.CE.EPSILON", "0.0"]  # fmt: skip
    batch = make_batch(4)
    for mean, factor in (("True", 1 / 3), ("False", 1.0)):
        network = make_network(*overrides, f"{PARTS}.MEAN", mean)
        targets, _ = network.supervision(batch)
        outputs = network.outputs(network.preprocess_image(batch), targets)
        total = network.losses(outputs, targets)
        by_view = [
            float(F.cross_entropy(outputs[view]["cls_outputs"].detach(), targets[view]))
            for view in network.views
        ]
        expected = 0.5 * by_view[0] + factor * sum(by_view[1:])
        assert float(total["loss_cls"].detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "scales,reason",
    [
        ("(1.0,)", "one number for each.*: CrossEntropyLoss, TripletLoss"),
        ("(1.0, 1.0, 1.0)", "one number for each.*: CrossEntropyLoss, TripletLoss"),
        ("('a', 'b')", "must be a list of numbers"),
    ],
)
def test_parts__scales_that_do_not_fit_are_explained(scales, reason):
    with pytest.raises(UserError, match=rf"PARTS\.SCALES is .*{reason}"):
        make_network(f"{PARTS}.SCALES", scales)


def test_parts__of_a_head_without_any_have_no_effect():
    overrides = ["MODEL.HEADS.NAME", "PseudoLabelHead", f"{PARTS}.MEAN", "True"]
    network = make_network(*overrides, f"{PARTS}.NAME", "('CircleLoss',)")
    assert [tuple(losses) for losses in network.criteria.values()] == [
        ("CrossEntropyLoss", "TripletLoss")
    ]
    assert network.factors == {"global": 1.0}


@pytest.mark.parametrize("weighted", ["()", "('CenterLoss',)", "('CrossEntropyLoss',)"])
def test_weighted__only_the_named_losses_are_given_weights(weighted):
    network = make_network(
        "MODEL.LOSSES.WEIGHTED", weighted, "MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'CenterLoss')"
    )
    targets, _ = network.supervision(make_batch(3))
    outputs = network.outputs(network.preprocess_image(make_batch(3)), targets)
    weights = torch.full((8,), 0.5)
    plain = network.losses(outputs, targets)
    for label, name in (("loss_cls", "CrossEntropyLoss"), ("loss_center", "CenterLoss")):
        factor = 0.5 if name in weighted else 1.0
        value = network.losses(outputs, targets, weights)[label]
        assert float(value.detach()) == pytest.approx(factor * float(plain[label].detach()))


def test_weighted__by_default_every_loss_that_can_be():
    from fastreid_uda.modeling.losses import LOSSES

    assert sorted(make_network().weighted) == [n for n in LOSSES if LOSSES.get(n).uses_weights]
