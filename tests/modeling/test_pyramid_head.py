import pytest
import torch
from torch.nn import functional as F

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.errors import UserError
from fastreid_uda.modeling.build import build_network
from fastreid_uda.modeling.heads.pseudo_label_head import heads_that_give
from fastreid_uda.modeling.heads.pyramid_head import PyramidHead
from tests.helpers import ROOT, TINY
from tests.modeling.test_multi_view_head import make_batch

DIM, EMBEDDED, CLASSES = 6, 10, 5
SOURCE = ["MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'TripletLoss')"]


def make_head(levels=2, embedding_dim=EMBEDDED, seed=0, **options):
    torch.manual_seed(seed)
    arguments = {
        "feat_dim": DIM, "num_classes": CLASSES, "neck_feat": "before", "scale": 1, "margin": 0.0,
        "pool_type": "GlobalAvgPool", "cls_type": "Linear", "with_bnneck": True, "norm_type": "BN",
    }  # fmt: skip
    return PyramidHead(levels=levels, embedding_dim=embedding_dim, **{**arguments, **options})


def make_maps(height=8, size=12, seed=1):
    return torch.rand(size, DIM, height, 4, generator=torch.Generator().manual_seed(seed))


def make_network(*overrides):
    cfg = load_config(
        ROOT / "configs/Synthetic/nplp.yml", [*TINY, "MODEL.DEVICE", "cpu", *overrides]
    )
    network = build_network(cfg)
    network.start_round(dict.fromkeys(network.views, CLASSES), None)
    return network.train()


@pytest.mark.parametrize("height", [2, 8, 16])
@pytest.mark.parametrize("levels,vectors", [(1, 1), (2, 3), (3, 6), (4, 10)])
def test_pool__equals_a_loop_over_granularities_and_bins(levels, vectors, height):
    maps = make_maps(height)
    pooled = make_head(levels).pool(maps)
    assert pooled.shape == (12, vectors * DIM)
    expected = []
    for bins in range(1, levels + 1):
        for b in range(bins):
            first, end = b * height // bins, -(-(b + 1) * height // bins)
            expected.append(maps[:, :, first:end].mean(dim=(2, 3)))
    torch.testing.assert_close(pooled, torch.cat(expected, dim=1))
    adaptive = [F.adaptive_avg_pool2d(maps, (i, 1)) for i in range(1, levels + 1)]
    by_torch = torch.cat([x[..., 0].transpose(1, 2).flatten(1) for x in adaptive], dim=1)
    torch.testing.assert_close(pooled, by_torch)


def test_forward__is_the_chain_of_the_paper():
    maps, head = make_maps(), make_head().train()
    with torch.no_grad():
        outputs = head(maps)["global"]
        embedded = head.pool(maps) @ head.embedding.weight.T + head.embedding.bias
        mean, variance = embedded.mean(dim=0), embedded.var(dim=0, unbiased=False)
        activated = ((embedded - mean) / (variance + 1e-5).sqrt()).clamp(min=0)
        torch.testing.assert_close(outputs["features"], embedded)
        torch.testing.assert_close(outputs["activated"], activated)
        assert outputs["activated"].min() == 0 and outputs["activated"].max() > 0
        torch.testing.assert_close(outputs["cls_outputs"], activated @ head.weight.T)
        assert torch.equal(outputs["pred_class_logits"], outputs["cls_outputs"])
    assert set(outputs) == set(PyramidHead.outputs)


def test_evaluation__gives_the_embedding_and_the_activated_features():
    maps, head = make_maps(), make_head()
    head.train()(maps)  # moves the running statistics
    outputs = head.eval()(maps)
    neck = head.bottleneck[0]
    expected = (outputs["global"] - neck.running_mean) / (neck.running_var + neck.eps).sqrt()
    torch.testing.assert_close(outputs["activated/global"], expected.clamp(min=0))
    torch.testing.assert_close(outputs["global"], head.embedding(head.pool(maps)))


def test_concatenation__without_the_linear_layer():
    maps, head = make_maps(), make_head(embedding_dim=0).eval()
    assert head.feature_dim == 3 * DIM
    assert torch.equal(head(maps)["global"], head.pool(maps))
    assert not any(isinstance(module, torch.nn.Linear) for module in head.modules())


def test_gradient__reaches_every_parameter_and_the_map():
    maps, head = make_maps().requires_grad_(), make_head().train()
    outputs = head(maps)["global"]
    (outputs["features"].square().sum() + outputs["cls_outputs"].square().sum()).backward()
    still = [name for name, p in head.named_parameters() if not p.grad.abs().sum() > 0]
    assert still == []
    assert (maps.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_neck__trains_its_bias_and_can_be_left_out():
    assert make_head().bottleneck[0].bias.requires_grad
    maps, head = make_maps(), make_head(with_bnneck=False).train()
    outputs = head(maps)["global"]
    assert torch.equal(outputs["activated"], outputs["features"].relu())


def test_dropout__is_between_the_activated_features_and_the_classifier():
    maps, head = make_maps(), make_head(dropout=0.5).train()
    head.reset_classifier(EMBEDDED, torch.eye(EMBEDDED))
    outputs = head(maps)["global"]
    kept = outputs["cls_outputs"] != 0
    assert torch.equal(outputs["cls_outputs"][kept], 2 * outputs["activated"][kept])
    active = outputs["activated"] > 0
    assert 0 < (kept & active).sum() < active.sum()


def test_margin_layers__see_cosines():
    maps = make_maps()
    targets = torch.arange(12) % CLASSES
    head = make_head(cls_type="CosSoftmax", scale=16, margin=0.25).train()
    outputs = head(maps, {"global": targets})["global"]
    cosines = F.normalize(outputs["activated"]) @ F.normalize(head.weight).T
    torch.testing.assert_close(outputs["pred_class_logits"], 16 * cosines)
    margins = 0.25 * F.one_hot(targets, CLASSES)
    torch.testing.assert_close(outputs["cls_outputs"], 16 * (cosines - margins))


def test_pooling__is_fastreids():
    maps = make_maps()
    pooled = make_head(pool_type="GlobalMaxPool").pool(maps)
    halves = [maps[:, :, :4], maps[:, :, 4:]]
    expected = [maps.amax(dim=(2, 3)), *(half.amax(dim=(2, 3)) for half in halves)]
    assert torch.equal(pooled, torch.cat(expected, dim=1))


@pytest.mark.parametrize(("key", "value"), [("PYRAMID.LEVELS", "0"), ("EMBEDDING_DIM", "-5")])
def test_sizes__out_of_range_are_refused_before_a_network_is_built(key, value):
    path = ROOT / "configs/Synthetic/nplp.yml"
    with pytest.raises(UserError, match=rf"HEADS\.{key} is {value}, but it must be"):
        load_config(path, [*TINY, f"MODEL.HEADS.{key}", value])


def test_heads_that_give__are_found_by_their_outputs():
    assert heads_that_give(("activated",)) == ["PyramidHead"]
    assert set(heads_that_give(("features",))) == {
        "MultiViewHead", "PseudoLabelHead", "PyramidHead",
    }  # fmt: skip


def test_classifier__that_no_loss_reads_has_no_gradient():
    network = make_network()
    assert not network.heads.weight.requires_grad
    sum(network(make_batch(1)).values()).backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert make_network(*SOURCE).heads.weight.requires_grad


def test_classifier__of_each_view_by_its_own_losses():
    network = make_network(
        "MODEL.HEADS.NAME", "MultiViewHead", "MODEL.LOSSES.NAME", "('TripletLoss',)",
        "MODEL.LOSSES.PARTS.NAME", "('CrossEntropyLoss',)",
    )  # fmt: skip
    trained = {view: weight.requires_grad for view, weight in network.classifiers().items()}
    assert trained == {"global": False, "top": True, "bottom": True}


def test_activated__by_name_of_a_network_and_as_the_mean_of_the_teachers():
    batch = make_batch(1)
    single = make_network().eval()
    with torch.no_grad():
        features = single(batch, ("global", "activated/global", "unnormalized/global"))
    assert torch.equal(features["global"], features["unnormalized/global"])
    assert features["activated/global"].min() >= 0
    assert single.memory_features == ("activated/global",)

    options = ["UDA.MEAN_TEACHER.ENABLED", "True", "UDA.MEAN_TEACHER.STUDENTS", "2"]
    pair = make_network(*options).eval()
    assert pair.memory_features == ("activated/global",)
    with torch.no_grad():
        names = ("activated/global", "student/global", "global")
        ours = pair(batch, names)
        teachers = [teacher(batch, ("activated/global",)) for teacher in pair.teachers]
    mean = sum(features["activated/global"] for features in teachers) / 2
    torch.testing.assert_close(ours["activated/global"], mean)
    assert tuple(ours) == names


def test_activated__of_another_head_is_no_feature():
    network = make_network("MODEL.HEADS.NAME", "PseudoLabelHead", *SOURCE).eval()
    assert network.memory_features == ()
    with pytest.raises(KeyError, match="no features 'activated/global'"):
        network(make_batch(1), ("activated/global",))
    with pytest.raises(KeyError, match="no features 'student/global'"):
        make_network().eval()(make_batch(1), ("student/global",))


def test_start_round__memories_start_from_the_class_means_as_copies():
    options = ["UDA.MEAN_TEACHER.ENABLED", "True", "UDA.MEAN_TEACHER.STUDENTS", "2"]
    for network in (make_network(), make_network(*options)):
        means = torch.rand(3, 256)
        network.start_round({"global": 3}, None, {"activated/global": means})
        tables = [memory.table for memory in network.class_memories()]
        assert len({table.data_ptr() for table in (*tables, means)}) == len(tables) + 1
        assert all(torch.equal(table, F.normalize(means)) for table in tables)
