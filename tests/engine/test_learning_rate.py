import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config, source_config
from fastreid_uda.engine.learning_rate import (
    build_scheduler,
    learning_rate_factor,
    scheduler_state,
)
from tests.helpers import ROOT

MMT = {"warmup_epochs": 10, "warmup_start": 0.01, "steps": (40, 70), "advance": 1}
GOLDEN = {
    "MMT": (
        MMT,
        {1: 38.15, 2: 72.8, 9: 315.35, 10: 350, 11: 350, 39: 350, 40: 35, 69: 35, 70: 3.5},
    ),
    "SECRET": (
        MMT | {"advance": 0},
        {1: 3.5, 2: 38.15, 9: 280.7, 10: 315.35, 11: 350, 40: 350, 41: 35, 70: 35, 71: 3.5},
    ),
    "SECRET without a source": (
        {"steps": (40, 60), "step_factors": (0.3, 0.1)},
        {1: 350, 40: 350, 41: 105, 60: 105, 61: 35, 80: 35},
    ),
    "MSPLR": (
        {"warmup_epochs": 10, "warmup_peak": 0.1, "steps": (41, 71), "advance": 1},
        {1: 3.5, 5: 17.5, 10: 35, 11: 350, 40: 350, 41: 35, 70: 35, 71: 3.5},
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_factor__golden_schedules(name):
    options, golden = GOLDEN[name]
    for epoch, micro in golden.items():
        rate = 350 * learning_rate_factor(epoch - 1, **options)
        assert rate == pytest.approx(micro, abs=0.005), epoch


def rates_of(cfg, epochs, iters=3, first_epoch=0):
    """The learning rate of every epoch, stepped as the hook does."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
    schedulers = build_scheduler(cfg, optimizer, iters, first_epoch)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedulers["lr_sched"].step()
    return rates


@pytest.mark.parametrize("target", ["Market", "Duke", "MSMT"])
def test_secret_without_a_source__schedule_counts_the_rounds(target):
    cfg = load_config(str(ROOT / f"configs/USL/{target}/secret.yml"))
    assert cfg.SOLVER.MAX_EPOCH == 1 and cfg.UDA.ROUNDS == 80 and not cfg.UDA.RESTART_SCHEDULE
    for epoch, micro in GOLDEN["SECRET without a source"][1].items():
        (rate,) = rates_of(cfg, 1, first_epoch=epoch - 1)
        assert rate * 1e6 == pytest.approx(micro)


@pytest.mark.parametrize("task", ["Duke2Market", "Market2Duke", "Market2MSMT", "Duke2MSMT"])
def test_secret__source_recipe_has_the_schedule_of_its_code(task):
    cfg = load_config(str(ROOT / f"configs/{task}/secret.yml"))
    assert rates_of(cfg, 1) == [pytest.approx(3.5e-4)] and cfg.SOLVER.STEPS == []
    rates = rates_of(source_config(cfg, "source"), 80)
    for epoch, micro in GOLDEN["SECRET"][1].items():
        assert rates[epoch - 1] * 1e6 == pytest.approx(micro, abs=0.005)


def test_msplr_config__has_the_printed_schedule():
    cfg = load_config(str(ROOT / "configs/Duke2Market/msplr.yml"))
    rates = rates_of(cfg, 90)
    for epoch, micro in GOLDEN["MSPLR"][1].items():
        assert rates[epoch - 1] * 1e6 == pytest.approx(micro, abs=0.005)


def test_msplr_config__frozen_epochs_before_the_schedule():
    overrides = ["UDA.FREEZE_BEFORE_SCHEDULE", "True"]
    cfg = load_config(str(ROOT / "configs/Duke2Market/msplr.yml"), overrides)
    rates = rates_of(cfg, 110)
    assert rates[:20] == [pytest.approx(3.5e-4)] * 20
    assert rates[20] * 1e6 == pytest.approx(3.5)


def test_mmt_recipe__has_the_published_schedule():
    cfg = source_config(load_config(str(ROOT / "configs/Duke2Market/baseline.yml")), "source")
    rates = rates_of(cfg, 80)
    for epoch, micro in GOLDEN["MMT"][1].items():
        assert rates[epoch - 1] * 1e6 == pytest.approx(micro, abs=0.005)


def test_baseline_config__is_constant():
    cfg = load_config(str(ROOT / "configs/Duke2Market/baseline.yml"))
    assert set(rates_of(cfg, 5)) == {0.00035}


def test_schedule_over_all_rounds__starts_where_the_round_is():
    overrides = ["SOLVER.STEPS", "[2]", "UDA.RESTART_SCHEDULE", "False"]
    cfg = load_config(str(ROOT / "configs/Duke2Market/baseline.yml"), overrides)
    assert rates_of(cfg, 2, first_epoch=1) == pytest.approx([3.5e-4, 3.5e-5])


@pytest.mark.parametrize("name", ["MultiStepLR", "CosineAnnealingLR"])
def test_schedules_of_the_host__are_built_and_saved(name, tmp_path):
    overrides = ["SOLVER.SCHED", name, "SOLVER.MAX_EPOCH", "6", "SOLVER.WARMUP_ITERS", "4"]
    cfg = load_config(str(ROOT / "configs/Duke2Market/baseline.yml"), overrides)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = build_scheduler(cfg, optimizer, 3, 0)
    assert sorted(schedulers) == ["lr_sched", "warmup_sched"]
    torch.save(scheduler_state(schedulers), tmp_path / "s.pth")
    state = torch.load(tmp_path / "s.pth", weights_only=True)
    for key, scheduler in schedulers.items():
        scheduler.load_state_dict(state[key])
