import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.engine.trainer import UDATrainer
from tests.helpers import ROOT, TINY


@pytest.fixture
def model():
    cfg = load_config(ROOT / "configs/Synthetic/msplr.yml", [*TINY, "MODEL.DEVICE", "cpu"])
    model = UDATrainer.build_model(cfg)
    model.start_round({"global": 5}, None)
    return model.train()


def batch(size=8):
    images = torch.randint(0, 256, (size, 3, 32, 32)).float()
    return {"images": images, "targets": torch.arange(size) % 4, "weights": torch.ones(size)}


def test_forward__does_not_change_the_batch(model):
    data = batch()
    before = data["images"].clone()
    model(data)
    assert (data["images"] == before).all()


def test_forward__same_batch_twice_gives_the_same_features(model):
    data = batch()
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(data)["global"], model(data)["global"])


def test_training__returns_the_named_losses(model):
    assert sorted(model(batch())) == ["loss_center", "loss_cls", "loss_triplet"]


def test_start_round__classifier_and_centers_have_the_rounds_classes(model):
    centroids = torch.nn.functional.normalize(torch.randn(7, 1024), dim=1)
    model.start_round({"global": 7}, {"global": centroids})
    assert (model.heads.weight == centroids).all()
    assert model.heads.weight.requires_grad
    (memory,) = model.class_memories()
    assert memory.table.shape == (7, 1024)
    model(batch())


def test_start_round__random_classifier_is_small(model):
    torch.manual_seed(0)
    model.start_round({"global": 50}, None)
    assert float(model.heads.weight.detach().std()) == pytest.approx(0.001, rel=0.02)


@pytest.mark.parametrize(
    "name,depth,dim",
    [
        ("build_resnet_backbone", "18x", 512),
        ("build_osnet_backbone", "x0_25", 128),
        ("build_mobilenetv2_backbone", "1.0x", 1280),
    ],
)
def test_backbones_of_the_host__train(name, depth, dim):
    overrides = ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.DEPTH", depth,
                 "MODEL.BACKBONE.FEAT_DIM", str(dim), "MODEL.DEVICE", "cpu"]  # fmt: skip
    model = UDATrainer.build_model(
        load_config(ROOT / "configs/Synthetic/baseline.yml", [*TINY, *overrides])
    )
    model.start_round({"global": 4}, None)
    model.train()
    sum(model(batch()).values()).backward()
    assert torch.isfinite(next(model.parameters()).grad).all()
