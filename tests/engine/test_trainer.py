"""The trainer and its hooks on a tiny data set, in this process."""

import logging

import numpy as np
import pytest
import torch

from fastreid_uda.config_loading import load_config
from fastreid_uda.engine import label_hooks
from fastreid_uda.engine.checkpointing import load_checkpoint, save_checkpoint
from fastreid_uda.engine.checks import check_run
from fastreid_uda.engine.label_hooks import PseudoLabelHook
from fastreid_uda.engine.target_statistics_hook import TargetStatisticsHook
from fastreid_uda.engine.weights import load_weights
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.pipeline import LabelingCollapse
from tests.engine.training import differing, make_trainer, state_of, train_until
from tests.helpers import ROOT, TINY


def test_supervised__every_trained_tensor_moves(market):
    trainer = make_trainer(market, "UDA.FREEZE_EPOCHS", "0", supervised=True)
    before = state_of(trainer)
    trainer.train()
    moved = set(differing(before, state_of(trainer)))
    parameters = trainer.model.named_parameters()
    still = [name for name, p in parameters if p.requires_grad and name not in moved]
    assert still == []


def test_freeze__only_the_classifier_moves_and_batch_norm_stands_still(market):
    trainer = make_trainer(market, "UDA.FREEZE_EPOCHS", "2", rounds=1)
    before = state_of(trainer)
    trainable = [p.requires_grad for p in trainer.model.parameters()]
    trainer.train()
    moved = set(differing(before, state_of(trainer)))
    assert moved == {"heads.weight", "criteria.global.CenterLoss.table"}
    assert [p.requires_grad for p in trainer.model.parameters()] == trainable


def test_freeze__body_trains_afterwards(market):
    trainer = make_trainer(market, "UDA.FREEZE_EPOCHS", "1", rounds=1)
    before = state_of(trainer)
    trainer.train()
    assert (
        "backbone.conv1.0.weight" in differing(before, state_of(trainer))
        or len(differing(before, state_of(trainer)))
        > len(list(trainer.model.named_parameters())) // 2
    )


def test_rounds__have_records_labels_and_a_new_optimizer(market):
    trainer = make_trainer(market)
    optimizers = []
    renew = trainer._renew_optimizer
    trainer._renew_optimizer = lambda: (renew(), optimizers.append(trainer.optimizer))
    trainer.train()
    assert [record["round"] for record in trainer.records] == [0, 1]
    assert len({id(optimizer) for optimizer in optimizers}) == 2
    for record in trainer.records:
        assert record["kept"] + record["outliers"] == len(trainer.images)
        assert set(record["seconds"]) == {
            "extract", "normalize", "distances", "eps", "cluster", "refine", "describe",
        }  # fmt: skip
        assert list(record["peak_mb"].values()) == sorted(record["peak_mb"].values())
        assert max(record["peak_mb"].values()) <= record["peak_rss_mb"]
        assert record["train_seconds"] > 0 and record["test_seconds"] >= 0
        assert -1 <= record["quality"]["silhouette"] <= 1
        assert "nmi" in record["quality"]
    arrays = np.load(market / "out/labels/round_001.npz")
    assert (arrays["labels/global"] == trainer.labels["global"].labels).all()
    assert (arrays["camera_ids"] == trainer.images.camera_ids).all()
    assert arrays["map/features"].shape == (len(trainer.images),) * 2
    names = (market / "out/labels/images.txt").read_text().splitlines()
    assert tuple(names) == trainer.images.paths


def test_centroids__are_the_first_classifier(market, monkeypatch):
    trainer = make_trainer(market, "UDA.CLASSIFIER_INIT", "centroids", rounds=1)
    seen = {}
    start = trainer.model.start_round

    def spy(*arguments):
        start(*arguments)
        seen["weight"] = trainer.model.heads.weight.detach().clone()

    monkeypatch.setattr(trainer.model, "start_round", spy)
    trainer.train()
    assert (seen["weight"].numpy() == trainer.labels["global"].centroids).all()


def test_poisoned_identities__change_no_label_and_no_weight(market):
    first = make_trainer(market)
    first.train()
    second = make_trainer(market)
    poisoned = np.random.default_rng(0).permutation(first.images.identities)
    object.__setattr__(second.images, "identities", poisoned)
    second.train()
    assert differing(first.model.state_dict(), second.model.state_dict()) == []
    assert (first.labels["global"].labels == second.labels["global"].labels).all()
    assert first.records[0]["quality"]["nmi"] != second.records[0]["quality"]["nmi"]


def test_without_identities__adapts_and_leaves_scores_out(market):
    trainer = make_trainer(market)
    object.__setattr__(trainer.images, "identities", None)
    trainer.train()
    assert "nmi" not in trainer.records[0]["quality"]
    assert trainer.records[0]["clusters"] >= 2


def test_supervised_without_identities__says_so(market):
    trainer = make_trainer(market, supervised=True)
    object.__setattr__(trainer.images, "identities", None)
    with pytest.raises(UserError, match="trains on identities, but its images have none"):
        trainer.train()


def test_seed__repeats_and_differs(market):
    runs = []
    for seed in ("3", "3", "4"):
        trainer = make_trainer(market, "UDA.SEED", seed)
        trainer.train()
        runs.append(state_of(trainer))
    assert differing(runs[0], runs[1]) == []
    assert differing(runs[0], runs[2]) != []


def test_workers__do_not_change_the_result(market):
    runs = []
    for workers in ("0", "2"):
        trainer = make_trainer(market, "DATALOADER.NUM_WORKERS", workers, rounds=1)
        trainer.train()
        runs.append(state_of(trainer))
    assert differing(*runs) == []


@pytest.mark.parametrize("stop_after", [0, 1, 2])
@pytest.mark.parametrize("schedule", ["EpochWarmupMultiStepLR", "MultiStepLR"])
def test_resume__after_any_epoch_repeats_bit_for_bit(market, stop_after, schedule):
    overrides = ["SOLVER.SCHED", schedule, "SOLVER.STEPS", "[1]", "SOLVER.WARMUP_ITERS", "3",
                 "UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.RHO.FRACTION", "0.1"]  # fmt: skip
    whole = make_trainer(market, *overrides, "OUTPUT_DIR", str(market / "whole"))
    whole.train()
    train_until(make_trainer(market, *overrides), stop_after)
    second = make_trainer(market, *overrides)
    assert second.resume()
    assert second.start_epoch == stop_after + 1
    second.train()
    assert differing(whole.model.state_dict(), second.model.state_dict()) == []
    assert (whole.labels["global"].labels == second.labels["global"].labels).all()
    assert [r["eps"] for r in whole.records] == [r["eps"] for r in second.records]
    assert whole.iter == second.iter


def test_resume__other_images_are_refused(market):
    trainer = make_trainer(market, rounds=1)
    trainer.train()
    next((market / "data").rglob("bounding_box_train/*.jpg")).unlink()
    with pytest.raises(UserError, match="other training images"):
        make_trainer(market).resume()


def test_resume__without_a_checkpoint_starts_anew(market):
    assert make_trainer(market).resume() is False


def test_collapse__keeps_the_labels_once_then_raises(market, monkeypatch, caplog):
    trainer = make_trainer(market, rounds=3)
    label = PseudoLabelHook._label

    def collapsing(self, features):
        if self.trainer.round:
            raise LabelingCollapse("View 'global': nothing left.")
        return label(self, features)

    monkeypatch.setattr(label_hooks.PseudoLabelHook, "_label", collapsing)
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    with pytest.raises(LabelingCollapse, match="Round 2: View 'global': nothing left"):
        trainer.train()
    assert "labels of the round before are used once more" in caplog.text
    assert [record["round"] for record in trainer.records] == [0, 1]
    assert (market / "out/model_last.pth").exists()


def test_stable_labels__stop_the_run(market):
    trainer = make_trainer(market, "UDA.STABLE_ARI", "-1.0", "UDA.STABLE_CHANGE", "100.0", rounds=5)
    trainer.train()
    assert len(trainer.records) == 1
    assert "equal those of the round before" in trainer.stop_reason
    assert (market / "out/model_final.pth").exists()


def test_nan_loss__ends_with_round_and_iteration(market):
    trainer = make_trainer(market, "SOLVER.BASE_LR", "1e30")
    with pytest.raises(UserError, match=r"not finite|NaN or infinite"):
        trainer.train()


def test_load_weights__other_classes_fit_other_networks_do_not(market, tmp_path):
    trainer = make_trainer(market, supervised=True)
    trainer.train()
    path = str(market / "out/model_final.pth")
    other = make_trainer(market)
    load_weights(other.model, [path])
    assert differing(trainer.model.backbone.state_dict(), other.model.backbone.state_dict()) == []
    network = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.DEPTH", "18x",
               "MODEL.BACKBONE.FEAT_DIM", "512"]  # fmt: skip
    with pytest.raises(UserError, match="of another architecture"):
        load_weights(make_trainer(market, *network).model, [path])


@pytest.mark.parametrize(
    "key,value,advice",
    [
        ("MODEL.META_ARCHITECTURE", "Baseline", "UDABaseline"),
        ("MODEL.HEADS.NAME", "EmbeddingHead", "PseudoLabelHead"),
    ],
)
def test_parts_with_fixed_classes__are_refused(market, key, value, advice):
    with pytest.raises(UserError, match=f"{key} is {value}.*set it to {advice}"):
        make_trainer(market, key, value)


def test_checkpoint__truncated_or_unwritable(tmp_path):
    path = str(tmp_path / "c.pth")
    save_checkpoint(path, {"a": torch.ones(100)})
    content = (tmp_path / "c.pth").read_bytes()
    (tmp_path / "c.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"c\.pth cannot be read"):
        load_checkpoint(path)


def test_checkpoint__failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / "c.pth")
    save_checkpoint(path, {"a": 1})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(path, {"a": 2})
    assert load_checkpoint(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["c.pth"]


@pytest.mark.parametrize(
    "overrides,tested,missing",
    [
        ([], ("global",), None),
        ([], ("global", "top", "bottom"), None),
        (["MODEL.HEADS.PARTS.NAMES", "('upper', 'bottom')"], ("upper",), "upper"),
        (["MODEL.HEADS.PARTS.NAMES", "('upper', 'bottom')"], ("bottom",), None),
        (["MODEL.HEADS.PARTS.BOTTLENECK", "False"], ("top",), "top, bottom"),
        (["MODEL.HEADS.EMBEDDING_DIM", "32"], ("global",), "global, top, bottom"),
    ],
)
def test_load_weights__tested_views_must_be_in_the_file(market, overrides, tested, missing):
    make_trainer(market, rounds=1, method="secret").train()
    model = make_trainer(market, *overrides, method="secret").model
    path = str(market / "out/model_final.pth")
    if missing is None:
        load_weights(model, [path], tested)
    else:
        with pytest.raises(UserError, match=rf"layers of the view\(s\) {missing} that"):
            load_weights(model, [path], tested)


def test_load_weights__views_at_random_are_named(market, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    make_trainer(market, rounds=1, method="baseline").train()
    path = str(market / "out/model_final.pth")
    load_weights(make_trainer(market, method="secret").model, [path])
    assert "view(s) top, bottom: they start at random" in caplog.text


def test_target_statistics__move_batch_norm_and_nothing_else(market):
    trainer = make_trainer(market, supervised=True, method="secret")
    images = trainer.images
    hook = TargetStatisticsHook(images, trainer.cfg)
    hook.trainer = trainer
    trainer.iters_per_epoch, trainer.epoch = 2, 0
    trainer.model = trainer.model.students[0].train()
    trainer.model.start_round(dict.fromkeys(trainer.model.views, 3), None)
    before = state_of(trainer)
    hook.before_epoch()
    hook.before_step()
    moved = differing(before, state_of(trainer))
    layers = {name.rsplit(".", 1)[0] for name in before if name.endswith("running_mean")}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert set(moved) == {f"{layer}.{name}" for layer in layers for name in statistics}
    assert all(p.grad is None for p in trainer.model.parameters())


def test_target_statistics__depend_on_seed_and_epoch_alone(market):
    trainer = make_trainer(market, supervised=True, method="baseline")
    trainer.iters_per_epoch = 1

    def batch(epoch):
        hook = TargetStatisticsHook(trainer.images, trainer.cfg)
        hook.trainer, trainer.epoch = trainer, epoch
        hook.before_epoch()
        return next(hook._batches)

    first, again, later = batch(0), batch(0), batch(1)
    assert "targets" not in first
    assert torch.equal(first["images"], again["images"])
    assert not torch.equal(first["images"], later["images"])


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["MODEL.HEADS.NAME", "PseudoLabelHead"], r"SECRET compares views.*MultiViewHead"),
        (["MODEL.HEADS.NAME", "EmbeddingHead"], r"EmbeddingHead.*PseudoLabelHead, MultiViewHead"),
        (["UDA.SECRET.LOCAL_VIEWS", "('left',)"], r"LOCAL_VIEWS names 'left'.*top, bottom"),
        (["TEST.VIEWS", "('global', 'left')"], r"TEST\.VIEWS is 'left'.*bottom, global, top"),
        (["TEST.VIEWS", "()"], r"TEST\.VIEWS is empty"),
        (["UDA.MEAN_TEACHER.ENABLED", "False"], r"SoftCrossEntropyLoss, which learns from a mean"),
        (["UDA.SOURCE.CONFIG", "Source/synthetic.yml"], "stage 'source' has no teacher"),
        (["UDA.JOIN_VIEWS", "True"], r"UDA\.JOIN_VIEWS is True.*SECRET compares them"),
    ],
)
def test_check_run__what_cannot_work_is_refused_at_the_start(market, overrides, sentence):
    cfg = load_config(
        str(ROOT / "configs/Synthetic/secret.yml"), [*TINY, "MODEL.DEVICE", "cpu", *overrides]
    )
    with pytest.raises(UserError, match=sentence):
        check_run(cfg, eval_only=False)


TEACHER = ["UDA.MEAN_TEACHER.ENABLED", "True"]
SOFT = ["MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'SoftCrossEntropyLoss', 'SoftTripletLoss')"]
THREE_PARTS = ["MODEL.HEADS.NAME", "MultiViewHead", "MODEL.HEADS.PARTS.BOTTLENECK", "False",
               "MODEL.HEADS.PARTS.NAMES", "('part1', 'part2', 'part3')"]  # fmt: skip


@pytest.mark.parametrize(
    "method,overrides",
    [
        ("msplr", TEACHER),  # with a class memory and frozen epochs
        ("msplr", THREE_PARTS),
        ("baseline", [*TEACHER, *SOFT]),
        ("baseline", [*TEACHER, *SOFT, *THREE_PARTS, "UDA.JOIN_VIEWS", "True"]),
        ("baseline", [*THREE_PARTS, "UDA.REFINERS", "('SECRET', 'MSPLR')", "UDA.SECRET.K", "0.1",
                      "UDA.MSPLR.MIN_IMAGES", "2"]),
        ("secret", ["UDA.CLUSTER.NAME", "KMeans", "UDA.CLUSTER.KMEANS.NUM_CLUSTERS", "5"]),
        ("secret", ["UDA.DISTANCE.NAME", "Cosine", "UDA.CLUSTER.EPS", "None",
                    "UDA.CLUSTER.RHO.FRACTION", "0.05"]),
        ("secret", ["SOLVER.AMP.ENABLED", "True", "UDA.MEAN_TEACHER.EMA_BUFFERS", "True"]),
        ("secret", ["MODEL.HEADS.EMBEDDING_DIM", "64", "MODEL.HEADS.CLS_LAYER", "CosSoftmax",
                    "MODEL.HEADS.SCALE", "16", "MODEL.HEADS.MARGIN", "0.1"]),
    ],
)  # fmt: skip
def test_combinations__views_and_teachers_with_every_method(market, method, overrides):
    trainer = make_trainer(market, *overrides, method=method)
    trainer.train()
    assert len(trainer.records) == 2
    assert tuple(trainer.labels) == trainer.model.views
    scores = trainer.evaluate(
        load_config(str(ROOT / "configs/Synthetic/baseline.yml"), [*TINY]), trainer.model
    )
    assert 0 <= scores["mAP"] <= 100
