"""What the trainer notices of itself while it trains."""

import logging

import pytest
import torch

from fastreid_uda.engine import label_hooks
from fastreid_uda.engine.label_changes import settled_at, unchanged
from fastreid_uda.engine.run_checks_hook import ZERO_STEPS, RunChecksHook
from fastreid_uda.errors import UserError
from tests.engine.training import differing, make_trainer

ONE_EPOCH = ["SOLVER.MAX_EPOCH", "1"]


@pytest.fixture
def heard(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    return caplog


def on_renewal(trainer, change):
    """Do something whenever the trainer has a new optimiser."""
    renew = trainer._renew_optimizer
    trainer._renew_optimizer = lambda: (renew(), change())


def test_checks__change_nothing_and_are_silent(market, heard):
    first, second = make_trainer(market, method="secret"), make_trainer(market, method="secret")
    second._hooks = [hook for hook in second._hooks if not isinstance(hook, RunChecksHook)]
    assert len(second._hooks) == len(first._hooks) - 1
    first.train(), second.train()
    assert differing(first.model.state_dict(), second.model.state_dict()) == []
    assert "weights" not in heard.text and "equals its student" not in heard.text


@pytest.mark.parametrize("method", ["baseline", "secret"])
def test_step_that_moves_nothing__ends_the_run(market, method):
    trainer = make_trainer(market, method=method)
    on_renewal(trainer, lambda: setattr(trainer.optimizer, "step", lambda: None))
    with pytest.raises(
        UserError,
        match=r"Iteration 0 of round 0 left the weights of student 1 as they were \(\w+, learning "
        r"rate [\d.e-]+, loss [\d.]+\); look at SOLVER\.OPT",
    ):
        trainer.train()
    assert trainer.records == []


def test_second_student_that_does_not_move__is_found(market):
    trainer = make_trainer(market, "UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER", "6", method="p2lr")

    def forget_second():
        own = {id(p) for p in trainer.model.students[1].parameters()}
        groups = trainer.optimizer.param_groups
        groups[:] = [g for g in groups if not own & {id(p) for p in g["params"]}]

    on_renewal(trainer, forget_second)
    with pytest.raises(UserError, match="the weights of student 2 as they were"):
        trainer.train()


def test_learning_rate_0__of_a_whole_round_ends_the_run(market):
    warmup = ["SOLVER.WARMUP_EPOCHS", "3", "SOLVER.WARMUP_FACTOR", "0.0"]
    trainer = make_trainer(market, *ONE_EPOCH, *warmup, "SOLVER.SCHED_ADVANCE", "0")
    with pytest.raises(UserError, match=r"No step of round 0 .*learning rate was 0 in all of them"):
        trainer.train()
    assert trainer.records == [] and trainer.iter == 2


def test_learning_rate_0__of_a_first_epoch_is_no_fault(market, heard):
    warmup = ["SOLVER.WARMUP_EPOCHS", "3", "SOLVER.WARMUP_FACTOR", "0.0"]
    trainer = make_trainer(market, *warmup, "SOLVER.SCHED_ADVANCE", "0", method="baseline")
    rates = []
    step = trainer.run_step
    trainer.run_step = lambda: (rates.append(trainer.optimizer.param_groups[0]["lr"]), step())
    trainer.train()
    assert rates[:2] == [0, 0] and rates[2] > 0
    assert "moved" not in heard.text


class SkippingScaler:
    """Skips the first step, as the loss scaler of mixed precision does with too large a scale."""

    def __init__(self):
        self.value, self.skips = 4.0, 1

    def get_scale(self):
        return self.value

    def scale(self, loss):
        return loss

    def step(self, optimizer):
        if not self.skips:
            optimizer.step()

    def update(self):
        if self.skips:
            self.value /= 2
        self.skips = 0

    def state_dict(self):
        return {}


def test_skipped_step__is_no_fault(market, heard):
    trainer = make_trainer(market, rounds=1)
    on_renewal(trainer, lambda: setattr(trainer, "grad_scaler", SkippingScaler()))
    trainer.train()
    assert len(trainer.records) == 1 and "moved" not in heard.text


def test_skipped_steps__of_a_whole_round_are_a_warning(market, heard):
    trainer = make_trainer(market, *ONE_EPOCH, "UDA.ITERS_PER_EPOCH", "1", rounds=1)
    on_renewal(trainer, lambda: setattr(trainer, "grad_scaler", SkippingScaler()))
    trainer.train()
    assert "No step of round 0 moved the weights: the loss scaler of SOLVER.AMP" in heard.text


@pytest.mark.parametrize("decay,times", [("0.9", 2), ("0.0", 0)])
def test_teacher_that_equals_its_student__is_a_warning_per_round(market, heard, decay, times):
    options = ["UDA.MEAN_TEACHER.EMA_DECAY", decay]
    trainer = make_trainer(market, *options, method="secret")
    trainer.model.update_teachers = lambda step: trainer.model.copy_to_teachers()
    trainer.train()
    assert heard.text.count("teacher 1 equals its student after 2 steps") == times


def test_loss_of_0__is_a_warning_per_round(market, heard):
    steps = str(ZERO_STEPS + 3)
    options = [*ONE_EPOCH, "UDA.ITERS_PER_EPOCH", steps]
    trainer = make_trainer(market, *options, method="baseline")
    step = trainer.run_step
    trainer.run_step = lambda: (step(), trainer.storage.put_scalars(total_loss=0.0))
    trainer.train()
    assert heard.text.count(f"loss was exactly 0 in {ZERO_STEPS} steps in a row") == 2


@pytest.mark.parametrize("scale,why", [(1, "bit for bit: the network"), (2, "clusters are stable")])
def test_same_labels__are_a_warning_with_the_reason(market, heard, monkeypatch, scale, why):
    first = []

    def frozen(*arguments):
        if not first:
            first.append(extract(*arguments))
        factor = scale**trainer.round
        return first[0].map_views(lambda x: x * factor)

    extract = label_hooks.extract_features
    monkeypatch.setattr(label_hooks, "extract_features", frozen)
    options = ["UDA.STABLE_ARI", "1.0", "UDA.CAMERA_NORMALIZATION", "False"]
    trainer = make_trainer(market, *options, *ONE_EPOCH, method="baseline")
    trainer.train()
    assert heard.text.count("the labels are those of the round before") == 1
    assert why in heard.text
    assert trainer.records[1]["quality"]["changed"] == 0


def test_changed_labels__are_no_warning():
    assert unchanged({"changed": 0, "top/changed": 3}, False) == ""
    assert unchanged({"nmi": 1.0}, True) == ""  # the first round


@pytest.mark.parametrize(
    "quality,ari",
    [
        ({"stability_ari": 0.99, "kept_change": 0.0}, 0.99),
        ({"stability_ari": 0.98, "kept_change": 0.0}, None),
        ({"stability_ari": 0.99, "kept_change": 0.02}, None),
        ({"nmi": 1.0}, None),
        ({"stability_ari": 1.0, "kept_change": 0.0, "top/stability_ari": 0.99,
          "top/kept_change": 0.005}, 0.99),
        ({"stability_ari": 1.0, "kept_change": 0.0, "top/stability_ari": 0.5,
          "top/kept_change": 0.0}, None),
        ({"stability_ari": 1.0, "kept_change": 0.0, "top/stability_ari": 1.0,
          "top/kept_change": 0.5}, None),
    ],
)  # fmt: skip
def test_settled__asks_the_view_that_changed_most(quality, ari):
    assert settled_at(quality, stable_ari=0.98, stable_change=0.01) == ari


@pytest.mark.parametrize("method,whose", [("baseline", "network"), ("secret", "mean teacher")])
def test_round__says_whose_features_are_clustered(market, caplog, monkeypatch, method, whose):
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    with caplog.at_level(logging.INFO, "fastreid_uda"):
        make_trainer(market, *ONE_EPOCH, method=method, rounds=1).train()
    assert f"Round 0: clustering the features of the {whose}" in caplog.text


def test_nan_loss_of_a_later_round__names_it_and_keeps_the_rounds_before(market):
    trainer = make_trainer(market, *ONE_EPOCH, method="baseline")
    step = trainer.run_step

    def diverge_in_round_1():
        if trainer.round:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(float("nan"))
        step()

    trainer.run_step = diverge_in_round_1
    with pytest.raises(UserError, match=r"not finite in round 1, .*lower SOLVER\.BASE_LR"):
        trainer.train()
    assert [record["round"] for record in trainer.records] == [0]
    assert torch.load(market / "out/model_last.pth", weights_only=True)["epoch"] == 0


def test_watching__begins_anew_in_every_round(market):
    trainer = make_trainer(market, *ONE_EPOCH, method="baseline")

    def stop_in_round_1():
        if trainer.round:
            trainer.optimizer.step = lambda: None

    on_renewal(trainer, stop_in_round_1)
    with pytest.raises(UserError, match="of round 1 left the weights"):
        trainer.train()
    assert [record["round"] for record in trainer.records] == [0]
    assert torch.load(market / "out/model_last.pth", weights_only=True)["epoch"] == 0
