"""The warnings at the end of a run."""

import logging

import pytest

from fastreid_uda.engine.run_warnings import kept_warnings, warnings_list
from fastreid_uda.engine.stages import run_stages
from tests.engine.training import make_trainer, train_until
from tests.helpers import read_summary

OURS = logging.getLogger("fastreid_uda.somewhere")


class Trainer:
    def __init__(self):
        self.memory, self.round = {}, 0


def test_kept__ours_once_with_round_and_count():
    trainer = Trainer()
    with kept_warnings() as warnings:
        OURS.warning("before %s", "all")
        warnings.follow(trainer)
        for trainer.round in (0, 0, 3):
            OURS.warning("odd")
        OURS.info("fine")
        logging.getLogger("fastreid.engine").warning("theirs")
    OURS.warning("later")
    assert warnings.entries == [
        {"round": None, "text": "before all", "times": 1},
        {"round": 0, "text": "odd", "times": 2},
        {"round": 3, "text": "odd", "times": 1},
    ]
    assert trainer.memory["warnings"] == warnings.entries[1:]


def test_kept__those_of_an_interrupted_run_without_a_round_stay():
    earlier = [{"round": None, "text": "a", "times": 1}, {"round": 2, "text": "b", "times": 1}]
    with kept_warnings(earlier) as warnings:
        OURS.warning("a")
    assert warnings.entries == [{"round": None, "text": "a", "times": 2}]


def test_list__lines_that_differ_in_numbers_alone_are_one():
    texts = ["one cluster holds 20 of 96 images", "lost", "one cluster holds 31 of 96 images"]
    entries = [{"round": n, "text": text, "times": 1 + n} for n, text in enumerate(texts)]
    entries.append({"round": None, "text": "odd", "times": 1})
    assert warnings_list(entries) == (
        "- one cluster holds 31 of 96 images (4 times, rounds 0 to 2)\n"
        "- lost (2 times, round 1)\n"
        "- odd"
    )


@pytest.fixture
def run(market, monkeypatch):
    """A config whose only warning of a round is that of its few clusters."""
    from fastreid_uda.engine import stages

    trainer = make_trainer(market, "SOLVER.IMS_PER_BATCH", "64", "SOLVER.MAX_EPOCH", "1",
                           "UDA.STAGES", "('adapt',)", method="baseline")  # fmt: skip
    monkeypatch.setattr(stages.UDATrainer, "evaluate", lambda *arguments: {})
    return trainer.cfg, market / "out"


def test_run__ends_with_its_warnings_and_writes_them(run, caplog, monkeypatch):
    cfg, folder = run
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    with caplog.at_level(logging.INFO, "fastreid_uda"):
        run_stages(cfg, resume=False)
    found = [w for w in read_summary(folder)["warnings"] if "fewer than the 16" in w["text"]]
    assert [(entry["round"], entry["times"]) for entry in found] == [(0, 1), (1, 1)]
    last = caplog.records[-1].getMessage()
    assert last.startswith("Warnings of this run:\n- ") and "(2 times, rounds 0 to 1)" in last


def test_resumed_run__knows_the_warnings_of_the_rounds_before(market):
    def run(folder, until=None):
        options = ["SOLVER.IMS_PER_BATCH", "64", "SOLVER.MAX_EPOCH", "1"]
        trainer = make_trainer(
            market, *options, "OUTPUT_DIR", str(market / folder), method="baseline", rounds=3
        )
        with kept_warnings() as warnings:
            trainer.resume()
            warnings.follow(trainer)
            trainer.train() if until is None else train_until(trainer, until)
        return [entry for entry in warnings.entries if entry["round"] is not None]

    whole = run("whole")
    assert len(whole) >= 3 and len(run("cut", until=1)) < len(whole)
    assert run("cut") == whole
