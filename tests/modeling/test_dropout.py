import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.errors import UserError
from fastreid_uda.modeling.build import build_network
from fastreid_uda.modeling.heads.pseudo_label_head import ClassifierHead
from tests.helpers import ROOT, TINY
from tests.modeling.test_multi_view_head import make_batch, make_network

ON = ["MODEL.HEADS.DROPOUT", "0.5"]
FEATURES, IMAGES = 5, 8


def make_head(dropout, neck_feat="before"):
    """A head whose logits are the features after the neck."""
    head = ClassifierHead(
        feat_dim=FEATURES, embedding_dim=0, num_classes=FEATURES, neck_feat=neck_feat,
        pool_type="GlobalAvgPool", cls_type="Linear", scale=1, margin=0.0, with_bnneck=True,
        norm_type="BN", dropout=dropout,
    )  # fmt: skip
    head.reset_classifier(FEATURES, torch.eye(FEATURES))
    return head.train()


def make_maps(seed=0):
    return torch.randn(IMAGES, FEATURES, 2, 2, generator=torch.Generator().manual_seed(seed))


def test_dropout__in_training_zeroes_or_scales_what_the_classifier_sees():
    torch.manual_seed(0)
    maps = make_maps()
    plain = make_head(0.0)(maps)["cls_outputs"].detach()
    dropped = make_head(0.2)(maps)["cls_outputs"].detach()
    kept = dropped != 0
    assert 0 < int((~kept).sum()) < kept.numel() // 2
    torch.testing.assert_close(dropped, torch.where(kept, plain / 0.8, torch.zeros(())))


def test_dropout__leaves_the_expectation():
    torch.manual_seed(0)
    maps, head = make_maps(), make_head(0.5)
    with torch.no_grad():
        mean = torch.stack([head(maps)["cls_outputs"] for _ in range(4000)]).mean(dim=0)
        torch.testing.assert_close(mean, make_head(0.0)(maps)["cls_outputs"], atol=0.12, rtol=0)


def test_dropout__does_nothing_in_evaluation():
    maps = make_maps()
    with torch.no_grad():
        assert torch.equal(make_head(0.5).eval()(maps), make_head(0.0).eval()(maps))


@pytest.mark.parametrize("neck_feat", ["before", "after"])
def test_dropout__feature_of_the_triplet_loss_is_dropped_only_behind_the_neck(neck_feat):
    torch.manual_seed(0)
    maps = make_maps()
    plain, dropped = (make_head(share, neck_feat)(maps)["features"] for share in (0.0, 0.5))
    assert torch.equal(plain, dropped) is (neck_feat == "before")


def test_dropout__is_in_every_view_and_renames_nothing():
    network, plain = make_network(*ON), make_network()
    assert [branch.bottleneck[-1].p for branch in network.heads.branches.values()] == [0.5] * 3
    assert list(network.state_dict()) == list(plain.state_dict())
    assert not any(isinstance(module, torch.nn.Dropout) for module in plain.modules())


def test_dropout__of_student_and_teacher_are_drawn_apart():
    torch.manual_seed(0)
    cfg = load_config(ROOT / "configs/Synthetic/secret.yml", [*TINY, *ON, "MODEL.DEVICE", "cpu"])
    model = build_network(cfg)
    model.start_round(dict.fromkeys(model.views, 5), None)
    (student,), (teacher,) = model.train().students, model.teachers
    images = student.preprocess_image(make_batch(3))
    with torch.no_grad():
        first, second = (network.outputs(images)["top"] for network in (student, teacher))
        assert torch.equal(first["features"], second["features"])
        assert not torch.equal(first["pred_class_logits"], second["pred_class_logits"])
        model.eval()
        assert torch.equal(student.outputs(images)["top"], teacher.outputs(images)["top"])


@pytest.mark.parametrize("dropout", ["-0.1", "1.0", "1.5"])
def test_config__refuses_what_is_no_share(dropout):
    with pytest.raises(UserError, match=f"MODEL.HEADS.DROPOUT is {dropout}, but it must be 0 or"):
        make_network("MODEL.HEADS.DROPOUT", dropout)
