import pytest
import torch
from torch.nn import functional as F

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.errors import UserError
from fastreid_uda.modeling.build import build_network
from fastreid_uda.modeling.heads.multi_view_head import make_bottleneck, stripes
from tests.helpers import ROOT, TINY

NO_TEACHER = ["UDA.MEAN_TEACHER.ENABLED", "False", "MODEL.DEVICE", "cpu",
              "MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'TripletLoss')"]  # fmt: skip


def make_network(*overrides):
    cfg = load_config(ROOT / "configs/Synthetic/secret.yml", [*TINY, *NO_TEACHER, *overrides])
    network = build_network(cfg)
    network.start_round(dict.fromkeys(network.views, 5), None)
    return network.train()


def make_batch(views, size=8):
    images = torch.randint(0, 256, (size, 3, 32, 32)).float()
    targets = torch.stack([torch.arange(size) % 4] * views, dim=1)
    return {"images": images, "targets": targets, "weights": torch.ones(size)}


def test_views__global_first_then_the_parts():
    network = make_network()
    assert network.views == ("global", "top", "bottom")
    network.eval()
    with torch.no_grad():
        features = network(make_batch(3))
    assert {view: x.shape for view, x in features.items()} == dict.fromkeys(
        network.views, (8, 1024)
    )


def test_views__parts_that_are_not_wanted_are_not_computed(monkeypatch):
    network = make_network().eval()
    with torch.no_grad():
        everything = network(make_batch(3))
        monkeypatch.setattr(network.heads, "part_bottleneck", None)  # would be called
        monkeypatch.setattr(network.heads, "parts", torch.nn.ModuleDict({"top": None}))
        only = network(make_batch(3), ("global",))
    assert list(only) == ["global"] and list(everything) == ["global", "top", "bottom"]


def test_parts__any_number_without_a_bottleneck():
    network = make_network(
        "MODEL.HEADS.PARTS.NAMES", "('part1', 'part2', 'part3')",
        "MODEL.HEADS.PARTS.BOTTLENECK", "False",
    )  # fmt: skip
    assert network.views == ("global", "part1", "part2", "part3")
    assert network.heads.part_bottleneck is None
    assert set(network(make_batch(4))) == {"loss_cls", "loss_triplet"}


@pytest.mark.parametrize("height,number", [(16, 2), (16, 3), (2, 2), (1, 2), (7, 4), (3, 5)])
def test_stripes__are_the_bins_of_adaptive_pooling(height, number):
    feature_map = torch.rand(2, 5, height, 4)
    pooled = torch.stack([s.mean(dim=(2, 3)) for s in stripes(feature_map, number)], dim=2)
    expected = F.adaptive_avg_pool2d(feature_map, (number, 1))[..., 0]
    torch.testing.assert_close(pooled, expected)


def test_stripes__sixteen_rows_in_three_bins_overlap():
    rows = torch.arange(16.0).reshape(1, 1, 16, 1)
    assert [s.flatten().int().tolist() for s in stripes(rows, 3)] == [
        [0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 10], [10, 11, 12, 13, 14, 15],
    ]  # fmt: skip


def test_bottleneck__layers_of_the_paper():
    torch.manual_seed(0)
    block = make_bottleneck(2048, "BN")
    convolutions = [m for m in block.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in convolutions] == [
        (2048, 512, 1), (512, 512, 3), (512, 2048, 1), (2048, 2048, 1),
    ]  # fmt: skip
    assert all(m.bias is None and m.stride == (1, 1) for m in convolutions)
    for m in convolutions:  # Kaiming, fan-out, gain sqrt(2)
        fan_out = m.out_channels * m.kernel_size[0] ** 2
        assert float(m.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    x = torch.rand(2, 2048, 4, 2)
    block.eval()
    with torch.no_grad():
        y, identity = x, block.downsample(x)
        y = block.bn1(block.conv1(y)).relu()
        y = block.bn2(block.conv2(y)).relu()
        y = (block.bn3(block.conv3(y)) + identity).relu()
        assert torch.equal(block(x), y) and y.shape == x.shape


def test_bottleneck__odd_width_is_explained():
    with pytest.raises(
        UserError, match=r"FEAT_DIM is 126.*PARTS\.BOTTLENECK needs a multiple of 4"
    ):
        make_bottleneck(126, "BN")


def test_necks__bias_is_frozen_in_every_view():
    for branch in make_network().heads.branches.values():
        neck = branch.bottleneck[0]
        assert neck.weight.requires_grad and not neck.bias.requires_grad


@pytest.mark.parametrize("detach", [True, False])
def test_detach__keeps_local_losses_out_of_the_backbone(detach):
    network = make_network("MODEL.HEADS.PARTS.DETACH", str(detach))
    batch = make_batch(3)
    targets, _ = network.supervision(batch)
    outputs = network.outputs(network.preprocess_image(batch), targets)
    (outputs["top"]["features"].sum() + outputs["bottom"]["cls_outputs"].sum()).backward()
    reached = any(p.grad is not None for p in network.backbone.parameters())
    assert reached is not detach
    assert network.heads.part_bottleneck.conv1.weight.grad is not None


def test_branches__have_their_own_classes_and_targets():
    network = make_network()
    classes = {"global": 4, "top": 6, "bottom": 3}
    centroids = {v: F.normalize(torch.randn(k, 1024), dim=1) for v, k in classes.items()}
    network.start_round(classes, centroids)
    for view, weight in network.classifiers().items():
        assert torch.equal(weight, centroids[view])
        assert weight.data_ptr() != centroids[view].data_ptr()
    batch = make_batch(3)
    batch["targets"] = torch.stack([torch.arange(8) % k for k in (4, 6, 3)], dim=1)
    network(batch)["loss_cls"].backward()
    assert {v: w.grad.shape for v, w in network.classifiers().items()} == {
        v: (k, 1024) for v, k in classes.items()
    }


def test_losses__are_the_sum_over_the_views():
    network = make_network()
    batch = make_batch(3)
    torch.manual_seed(0)
    targets, weights = network.supervision(batch)
    outputs = network.outputs(network.preprocess_image(batch), targets)
    total = network.losses(outputs, targets, weights)
    for name, loss in network.criteria["global"].items():
        parts = [network.criteria[v][name](outputs[v], targets[v], weights) for v in network.views]
        assert float(total[loss.label].detach()) == pytest.approx(
            sum(float(p.detach()) for p in parts)
        )


def test_weights_of_a_head_without_parts__have_the_same_names():
    single = make_network("MODEL.HEADS.NAME", "PseudoLabelHead").state_dict()
    several = make_network().state_dict()
    assert set(single) <= set(several)


@pytest.mark.parametrize(
    "names", ["()", "('global',)", "('top', 'top')", "('up per',)", "(1, 2)", "('half', 'keys')"]
)
def test_view_names__unusable_ones_are_explained(names):
    with pytest.raises(UserError, match=r"MODEL\.HEADS\.PARTS\.NAMES is "):
        make_network("MODEL.HEADS.PARTS.NAMES", names)
