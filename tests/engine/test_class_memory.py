"""Class memories that start from features of the round, in training: NPLP's lookup table."""

import logging

import numpy as np
import pytest
import torch
from fastreid.solver import build_optimizer

from fastreid_uda.config_loading import load_config, source_config
from fastreid_uda.data.transforms import build_transforms
from fastreid_uda.engine.checks import check_run
from fastreid_uda.engine.label_hooks import PseudoLabelHook
from fastreid_uda.engine.weights import load_weights
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.pipeline import LabelingCollapse
from fastreid_uda.modeling.build import build_network
from tests.engine.training import differing, make_trainer, state_of, train_until
from tests.helpers import ROOT, TINY

TABLE = "criteria.global.CenterContrastiveLoss.table"
LITERAL = ["MODEL.LOSSES.CENTER_CONTRASTIVE.NORMALIZE", "False",
           "MODEL.LOSSES.CENTER_CONTRASTIVE.LOGIT_SCALE", "1.0"]  # fmt: skip
CORRECTING = ["UDA.NPLP.STARTUP_ROUNDS", "1"]  # the second round is of the correcting stage
TWO_TEACHERS = ["UDA.MEAN_TEACHER.ENABLED", "True", "UDA.MEAN_TEACHER.STUDENTS", "2"]


def nplp_trainer(folder, *overrides, **options):
    return make_trainer(folder, *overrides, method="nplp", **options)


def tables_at_the_start(trainer):
    """A list that each round of the trainer adds to: its tables, its features and its labels."""
    seen = []
    start = trainer.start_round

    def spy(labels, use_centroids, features=None):
        start(labels, use_centroids, features)
        tables = [memory.table.numpy().copy() for memory in trainer.model.class_memories()]
        seen.append((tables, features["activated/global"], labels["global"].labels.copy()))

    trainer.start_round = spy
    return seen


@pytest.mark.parametrize("overrides", [[], TWO_TEACHERS], ids=["alone", "two teachers"])
def test_tables__start_from_the_mean_activated_features_of_the_classes(market, overrides):
    trainer = nplp_trainer(market, *LITERAL, *overrides)
    seen = tables_at_the_start(trainer)
    trainer.train()
    assert len(seen) == 2 and not np.array_equal(seen[0][1], seen[1][1])
    for tables, features, labels in seen:
        expected = [features[labels == k].mean(axis=0) for k in range(labels.max() + 1)]
        assert len(tables) == len(trainer.model.students)
        for table in tables:
            np.testing.assert_allclose(table, np.stack(expected), atol=1e-6)


def test_tables__of_labels_that_are_kept_start_from_the_new_features(market, monkeypatch):
    trainer = nplp_trainer(market, *LITERAL)
    label = PseudoLabelHook._label

    def collapsing(self, features):
        if self.trainer.round:
            raise LabelingCollapse("View 'global': nothing left.")
        return label(self, features)

    monkeypatch.setattr(PseudoLabelHook, "_label", collapsing)
    seen = tables_at_the_start(trainer)
    trainer.train()
    (_, old, labels), ((table,), new, same) = seen
    assert np.array_equal(labels, same) and not np.array_equal(old, new)
    expected = [new[labels == k].mean(axis=0) for k in range(labels.max() + 1)]
    np.testing.assert_allclose(table, np.stack(expected), atol=1e-6)


def test_tables__move_with_the_batches_and_stay_unit(market):
    trainer = nplp_trainer(market, rounds=1)
    seen = tables_at_the_start(trainer)
    trainer.train()
    table = trainer.model.state_dict()[TABLE]
    assert not np.array_equal(table.numpy(), seen[0][0][0])
    torch.testing.assert_close(table.norm(dim=1), torch.ones(len(table)))


@pytest.mark.parametrize("overrides", [[], TWO_TEACHERS], ids=["alone", "two teachers"])
@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_resume__after_any_epoch_repeats_bit_for_bit(market, stop_after, overrides):
    overrides = [*CORRECTING, *overrides]
    whole = nplp_trainer(market, *overrides, "OUTPUT_DIR", str(market / "whole"))
    whole.train()
    train_until(nplp_trainer(market, *overrides), stop_after)
    second = nplp_trainer(market, *overrides)
    assert second.resume()
    second.train()
    assert differing(whole.model.state_dict(), second.model.state_dict()) == []
    assert any(name.endswith(TABLE) for name in second.model.state_dict())
    assert (whole.labels["global"].labels == second.labels["global"].labels).all()


def test_training__moves_all_but_the_classifier_which_the_optimizer_has_not(market):
    trainer = nplp_trainer(market, rounds=1)
    before = state_of(trainer)
    trainer.train()
    moved = set(differing(before, state_of(trainer)))
    still = {name for name, _ in trainer.model.named_parameters() if name not in moved}
    assert still <= {"heads.weight"}
    weight = trainer.model.heads.weight
    assert (weight.numpy(force=True) == trainer.labels["global"].centroids).all()
    groups = trainer.optimizer.param_groups
    assert id(weight) not in {id(p) for group in groups for p in group["params"]}


def test_source__trains_the_classifier_of_the_same_head(market):
    options = ["MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'TripletLoss')",
               "MODEL.HEADS.DROPOUT", "0.5"]  # fmt: skip
    trainer = nplp_trainer(market, *options, supervised=True)
    before = state_of(trainer)
    trainer.train()
    moved = differing(before, state_of(trainer))
    parameters = [name for name, _ in trainer.model.named_parameters()]
    assert [name for name in parameters if name not in moved] == []


@pytest.mark.parametrize("task", ["Duke2Market", "Market2Duke"])
def test_recipes__learning_rates_of_paper_and_camstyle(task):
    backbone = ["MODEL.BACKBONE.NAME", "build_shufflenetv2_backbone", "MODEL.DEVICE", "cpu",
                "MODEL.BACKBONE.DEPTH", "0.5x", "MODEL.BACKBONE.FEAT_DIM", "1024",
                "MODEL.BACKBONE.PRETRAIN", "False"]  # fmt: skip
    cfg = load_config(str(ROOT / f"configs/{task}/nplp.yml"), backbone)
    for recipe, expected in (
        (cfg, {"backbone": 0.0012, "heads": 0.0012}),
        (source_config(cfg, "source"), {"backbone": 0.01, "heads": 0.1}),
    ):
        network = build_network(recipe)
        network.start_round({"global": 3}, None)
        optimizer, _ = build_optimizer(recipe, network, contiguous=False)
        part_of = {id(p): name.split(".")[0] for name, p in network.named_parameters()}
        rates = {(part_of[id(g["params"][0])], g["lr"]) for g in optimizer.param_groups}
        assert {part: pytest.approx(rate) for part, rate in rates} == expected
        assert len(rates) == 2
        assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0005}
        nesterov = recipe is not cfg
        assert {(g["momentum"], g["nesterov"]) for g in optimizer.param_groups} == {(0.9, nesterov)}
        transforms = build_transforms(recipe, is_train=True).transforms
        (crop,) = (t for t in transforms if type(t).__name__ == "RandomResizedCrop")
        assert tuple(crop.size) == (256, 128) and tuple(crop.scale) == (0.64, 1.0)
        assert not any(type(t).__name__ == "Pad" for t in transforms)
        erasing = [t for t in transforms if type(t).__name__ == "RandomErasing"]
        assert len(erasing) == (recipe is cfg)
    heads = (cfg.MODEL.HEADS.DROPOUT, source_config(cfg, "source").MODEL.HEADS.DROPOUT)
    assert heads == (0.0, 0.5)


def test_load_weights__of_another_pyramid_are_named(market, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    nplp_trainer(market, rounds=1).train()
    path = str(market / "out/model_final.pth")
    load_weights(nplp_trainer(market).model, [path], tested=("global",))
    assert "at random" not in caplog.text
    for key, value in (("PYRAMID.LEVELS", "3"), ("EMBEDDING_DIM", "64")):
        other = nplp_trainer(market, f"MODEL.HEADS.{key}", value).model
        with pytest.raises(UserError, match=r"does not have the layers of the view\(s\) global"):
            load_weights(other, [path], tested=("global",))
        load_weights(other, [path])
        assert "view(s) global: they start at random" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["MODEL.HEADS.NAME", "PseudoLabelHead"],
         r"MODEL\.LOSSES\.NAME has CenterContrastiveLoss, which reads activated, but "
         r"MODEL\.HEADS\.NAME is PseudoLabelHead.*set it to PyramidHead"),
        (["UDA.SOURCE.CONFIG", ""],
         r"CenterContrastiveLoss, whose table starts from the features .*stage 'source' has no"),
        (["UDA.FREEZE_EPOCHS", "1"],
         r"FREEZE_EPOCHS is 1.*only the classifier trains, which no loss .*set it to 0, or add"),
        (["MODEL.HEADS.NAME", "MultiViewHead", "MODEL.LOSSES.NAME", "('TripletLoss',)",
          "MODEL.LOSSES.PARTS.NAME", "('CenterContrastiveLoss',)"],
         "MultiViewHead, which does not give that"),
    ],
)  # fmt: skip
def test_check_run__what_cannot_work_is_refused_at_the_start(market, overrides, sentence):
    path = str(ROOT / "configs/Synthetic/nplp.yml")
    with pytest.raises(UserError, match=sentence):
        check_run(load_config(path, [*TINY, "MODEL.DEVICE", "cpu", *overrides]), eval_only=False)


def test_check_run__accepts_the_method(market):
    path = str(ROOT / "configs/Synthetic/nplp.yml")
    check_run(load_config(path, [*TINY, "MODEL.DEVICE", "cpu"]), eval_only=False)


@pytest.mark.parametrize(
    "overrides",
    [
        CORRECTING,
        ["UDA.REFINERS", "()"],
        ["MODEL.HEADS.EMBEDDING_DIM", "0", "MODEL.HEADS.PYRAMID.LEVELS", "1"],
        [*CORRECTING, *LITERAL, "SOLVER.AMP.ENABLED", "True", "MODEL.HEADS.PYRAMID.LEVELS", "4"],
        ["UDA.REFINERS", "('MSPLR', 'NPLP')", "SOLVER.OPT", "SGD", "SOLVER.BASE_LR", "0.0012"],
        ["MODEL.LOSSES.NAME",
         "('CrossEntropyLoss', 'CenterContrastiveLoss', 'CenterLoss')", "UDA.FREEZE_EPOCHS", "1"],
        ["UDA.CLUSTER.NAME", "KMeans", "UDA.CLUSTER.KMEANS.NUM_CLUSTERS", "5",
         "UDA.REFINERS", "('P2LR',)", "UDA.P2LR.P0", "0.6", *TWO_TEACHERS],
        ["UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.EPS_RULE", "CrossCamera",
         "UDA.CLUSTER.CROSSCAMERA.FRACTION", "0.1", "UDA.CLUSTER.EPS_UPDATE", "every",
         "UDA.DISTANCE.NAME", "Euclidean", *CORRECTING],
    ],
)  # fmt: skip
def test_combinations__train_two_rounds(market, overrides):
    trainer = nplp_trainer(market, *overrides)
    trainer.train()
    assert len(trainer.records) == 2
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert all(torch.isfinite(memory.table).all() for memory in trainer.model.class_memories())
