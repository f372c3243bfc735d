"""A run that is stopped after a round and resumed has the same next round, whatever the method."""

import json
import logging

import numpy as np
import pytest
import torch

from fastreid_uda.engine.checkpointing import labels_from_state, labels_to_state
from fastreid_uda.engine.epoch_writer import cut_metrics
from fastreid_uda.errors import UserError
from fastreid_uda.files import atomic_write, remove_leftovers
from fastreid_uda.labeling.types import PseudoLabels
from tests.engine.training import differing, make_trainer, train_until
from tests.faults.damage import run_stopped_after

KMEANS = ["UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER", "6"]
METHODS = {
    "baseline": ["UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.RHO.FRACTION", "0.1"],
    "msplr": ["UDA.FREEZE_EPOCHS", "0"],
    "nplp": ["UDA.NPLP.STARTUP_ROUNDS", "1"],
    "secret": ["UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.RHO.FRACTION", "0.1"],
    "p2lr": KMEANS,
    "inclr": KMEANS,
}


@pytest.mark.parametrize("method", METHODS)
def test_resume_after_a_round__next_round_is_the_same_bit_for_bit(market, method):
    options = [*METHODS[method], "SOLVER.MAX_EPOCH", "1"]
    whole = make_trainer(market, *options, "OUTPUT_DIR", str(market / "whole"), method=method)
    whole.train()
    train_until(make_trainer(market, *options, method=method), 0)
    second = make_trainer(market, *options, method=method)
    assert second.resume() and second.round == 0
    second.train()
    for n in range(2):
        ours, theirs = (np.load(market / f / f"labels/round_{n:03d}.npz") for f in ("out", "whole"))
        assert ours.files == theirs.files
        assert all(np.array_equal(ours[k], theirs[k], equal_nan=True) for k in theirs.files)
    assert differing(whole.model.state_dict(), second.model.state_dict()) == []
    ours, theirs = (trainer.optimizer.state_dict()["state"] for trainer in (second, whole))
    assert ours.keys() == theirs.keys() and ours
    assert all(differing(ours[n], theirs[n]) == [] for n in theirs)


def test_labels_in_a_checkpoint__keep_their_uncertainty(tmp_path):
    part = PseudoLabels(
        labels=np.array([0, -1, 1]), centroids=np.eye(2, dtype=np.float32),
        weights=np.array([1, 0, 1], np.float32), uncertainty=np.array([0.5, np.nan, 2], np.float32),
    )  # fmt: skip
    torch.save(labels_to_state({"global": part}), tmp_path / "labels.pth")
    again = labels_from_state(torch.load(tmp_path / "labels.pth", weights_only=True))["global"]
    np.testing.assert_array_equal(again.uncertainty, part.uncertainty)
    none = PseudoLabels(part.labels, part.centroids, part.weights)
    assert labels_from_state(labels_to_state({"global": none}))["global"].uncertainty is None


# -- what a config may change ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with the data and the run of one round of two."""
    folder = tmp_path_factory.mktemp("stopped")
    with run_stopped_after(1, folder):
        yield folder


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["SOLVER.MAX_EPOCH", "3"], r"rounds of 2 epoch\(s\), but the config has rounds of 3; set"),
        (["UDA.SEED", "1"], "made with UDA.SEED 0, but it is 1 now; set it back"),
        (["UDA.MEAN_TEACHER.ENABLED", "True"], r"0 mean teacher\(s\), but the config describes 1"),
        (["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.DEPTH", "18x",
          "MODEL.BACKBONE.FEAT_DIM", "512"], "of another network or optimiser.*restore the config"),
        (["MODEL.LOSSES.NAME", "('CrossEntropyLoss',)"], "of another network or optimiser"),
    ],
)  # fmt: skip
def test_resume__of_another_run_is_refused_in_one_sentence(stopped, overrides, sentence):
    with pytest.raises(UserError, match=sentence) as raised:
        make_trainer(stopped, *overrides).resume()
    assert "\n" not in str(raised.value) and "model_last.pth" in str(raised.value)


def test_resume__with_fewer_rounds_than_are_done_is_refused(stopped):
    with pytest.raises(UserError, match="has done 1 rounds, but UDA.ROUNDS is 0; set it to 1 or"):
        make_trainer(stopped, rounds=0).resume()


def test_resume__with_more_rounds_and_another_batch_goes_on_and_says_so(
    stopped, monkeypatch, caplog
):
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    overrides = ["UDA.ROUNDS", "5", "SOLVER.IMS_PER_BATCH", "8", "UDA.ITERS_PER_EPOCH", "3"]
    trainer = make_trainer(stopped, *overrides, rounds=5)
    assert trainer.resume() and trainer.start_epoch == 2 and trainer.max_epoch == 10
    assert "SOLVER.IMS_PER_BATCH 16 -> 8" in caplog.text
    assert "grows up to round 5; the rounds so far counted to 2" in caplog.text


# -- files that a kill leaves behind ---------------------------------------------------------------


def test_metrics__every_iteration_is_there_once_after_a_resume(market):
    whole = make_trainer(market, "OUTPUT_DIR", str(market / "whole"))
    whole.train()
    trainer = make_trainer(market)
    train_until(trainer, 1)
    with open(market / "out/metrics.json", "a") as file:
        file.write('{"iteration": 4, "labels/kept": 7.0}\n{"iteration": 5, "lr": 0.')
    second = make_trainer(market)
    assert second.resume()
    second.train()
    ours, theirs = (
        sorted(json.loads(line)["iteration"] for line in (market / f / "metrics.json").open())
        for f in ("out", "whole")
    )
    assert ours == theirs and len(set(ours)) == len(ours)


def test_cut_metrics__without_a_checkpoint_nothing_is_kept(tmp_path):
    cut_metrics(str(tmp_path), 0)  # no file
    (tmp_path / "metrics.json").write_text('{"iteration": 0, "lr": 1.0}\n')
    cut_metrics(str(tmp_path), 0)
    assert (tmp_path / "metrics.json").read_text() == ""


def test_leftovers__of_a_kill_are_removed_and_nothing_else(tmp_path):
    others = (".hidden", "model.pth", ".model.tmp", "notes.12345678.tmp")
    for name in others:
        (tmp_path / name).touch()
    with pytest.raises(InterruptedError), atomic_write(str(tmp_path / "model.pth")) as file:
        (tmp_path / "a copy").write_text(file.name if isinstance(file.name, str) else "")
        (name,) = {p.name for p in tmp_path.iterdir()} - {*others, "a copy"}
        raise InterruptedError
    (tmp_path / name).touch()  # as a kill leaves it
    (tmp_path / "a copy").unlink()
    remove_leftovers(str(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == set(others)
