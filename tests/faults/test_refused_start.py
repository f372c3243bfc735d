"""A start that is refused leaves a finished run where it is."""

import pickle

import pytest
import torch

from tests.engine.training import make_trainer
from tests.helpers import ROOT, TINY, train_net

CONFIG = ROOT / "configs/Synthetic/baseline.yml"
TINY_RUN = [*TINY, "SOLVER.MAX_EPOCH", "1", "UDA.ROUNDS", "1", "MODEL.DEVICE", "cpu"]


@pytest.fixture
def finished(market):
    """What a run may have left, of which nothing has to be readable here."""
    out = market / "run"
    (out / "labels").mkdir(parents=True)
    for name in ("model_last.pth", "model_final.pth", "summary.json"):
        (out / name).write_text("{}")
    return out


def names(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


def refused(market, out, *options):
    process = train_net(
        CONFIG, "OUTPUT_DIR", str(out), *TINY_RUN, *options, data=market / "data", check=False
    )
    assert process.returncode == 2, process.stderr
    return process.stderr


def test_weights_with_code__leave_the_run_that_is_there(market, finished):
    before = names(finished)
    (market / "evil.pth").write_bytes(pickle.dumps({"model": print}))
    errors = refused(market, finished, "MODEL.WEIGHTS", str(market / "evil.pth"))
    assert "evil.pth" in errors
    assert names(finished) == before


def test_weights_of_another_network__leave_the_run_that_is_there(market, finished):
    before = names(finished)
    torch.save({"model": make_trainer(market).model.state_dict()}, market / "other.pth")
    errors = refused(market, finished, "MODEL.WEIGHTS", str(market / "other.pth"))
    assert "of another architecture" in errors
    assert names(finished) == before


def test_damaged_source_network__leaves_the_run_that_is_there(market, finished):
    (finished / "source").mkdir()
    (finished / "source/model_final.pth").write_bytes(b"half")
    before = names(finished)
    assert "source/model_final.pth cannot be read" in refused(market, finished)
    assert [name for name in names(finished) if not name.startswith(("log", "config"))] == before


def test_resume_without_a_checkpoint__names_the_earlier_runs(market):
    out = market / "run"
    (out / "earlier_run_1").mkdir(parents=True)
    options = ["OUTPUT_DIR", str(out), *TINY_RUN, "UDA.STAGES", "('adapt',)"]
    process = train_net(CONFIG, "--resume", *options, data=market / "data")
    assert "earlier runs are in earlier_run_1" in process.stdout
