# ruff: noqa: E402  fastreid_uda comes first, so that fast-reid can be imported
from __future__ import annotations

import socket

import numpy as np
import pytest

import fastreid_uda

torch = pytest.importorskip("torch")
pytest.importorskip("fastreid")

from fastreid.config import get_cfg
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import compute_dist

from fastreid_uda.evaluation.reid_evaluator import BlockwiseReidEvaluator
from tests import processes

from . import make_people

KEYS = ["Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "metric"]


@pytest.fixture
def people():
    return make_people(num_queries=50, num_gallery=300, identities=30, cameras=4, dimensions=32)


@pytest.fixture
def reference(monkeypatch):
    """fast-reid's evaluator without its compiler, and with its CPU search for re-ranking."""
    monkeypatch.setattr(ReidEvaluator, "_compile_dependencies", lambda self: None)
    jaccard = compute_dist.compute_jaccard_distance
    monkeypatch.setattr(
        compute_dist,
        "compute_jaccard_distance",
        lambda features, k1, k2, search_option: jaccard(features, k1, k2, search_option=3),
    )
    return ReidEvaluator


def make_cfg(*changes):
    cfg = get_cfg()
    cfg.merge_from_list(list(changes))
    return cfg


def feed(evaluator, people, wrap=lambda features: features, batch=64):
    features, identities, camera_ids = (
        torch.from_numpy(np.concatenate(people[side : side + 2])) for side in (0, 2, 4)
    )
    for rows in torch.arange(len(features)).split(batch):
        inputs = {"targets": identities[rows], "camids": camera_ids[rows]}
        evaluator.process(inputs, wrap(features[rows]))
    return evaluator


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["TEST.METRIC", "euclidean"],
        ["TEST.RERANK.ENABLED", True],
        ["TEST.RERANK.ENABLED", True, "TEST.METRIC", "euclidean", "TEST.RERANK.LAMBDA", 0.6],
        ["TEST.AQE.ENABLED", True, "TEST.AQE.QE_TIME", 2],
        ["TEST.AQE.ENABLED", True, "TEST.RERANK.ENABLED", True, "TEST.RERANK.K1", 7],
        ["TEST.ROC.ENABLED", True],
        ["TEST.ROC.ENABLED", True, "TEST.RERANK.ENABLED", True],
    ],
    ids=lambda changes: " ".join(map(str, changes)) or "default",
)
def test_evaluate__equals_fastreid(people, reference, changes):
    cfg = make_cfg(*changes)
    expected = feed(reference(cfg, 50), people).evaluate()
    results = feed(BlockwiseReidEvaluator(cfg, 50), people).evaluate()
    assert list(results) == list(expected)
    assert list(results)[:6] == KEYS
    # fast-reid keeps Rank-k in float32.
    assert results == pytest.approx(expected, abs=2e-5)


def test_process__half_precision_is_kept_as_float32(people):
    evaluator = feed(BlockwiseReidEvaluator(make_cfg(), 50), people, lambda f: f.half())
    assert evaluator.evaluate()["mAP"] > 0


def test_evaluate__twice_and_after_reset(people):
    evaluator = feed(BlockwiseReidEvaluator(make_cfg(), 50, "unused/folder"), people)
    first = evaluator.evaluate()
    assert evaluator.evaluate() == first
    evaluator.reset()
    with pytest.raises(fastreid_uda.UserError, match="no image"):
        evaluator.evaluate()
    assert feed(evaluator, people, batch=7).evaluate() == first


def test_evaluate__error_diverged_model(people):
    people.gallery_features[[3, 200]] = np.nan
    with pytest.raises(fastreid_uda.UserError, match=r"2 of 350 test features .* diverged"):
        feed(BlockwiseReidEvaluator(make_cfg(), 50), people).evaluate()


@pytest.mark.parametrize(
    ("num_query", "changes", "message"),
    [
        (50, ["TEST.METRIC", "jaccard"], "'jaccard'"),
        (350, [], "gallery identities"),
        (50, ["TEST.RERANK.ENABLED", True, "TEST.RERANK.K1", 0], "k1=0"),
    ],
)
def test_evaluate__error(people, num_query, changes, message):
    with pytest.raises(fastreid_uda.UserError, match=message):
        feed(BlockwiseReidEvaluator(make_cfg(*changes), num_query), people).evaluate()


PROCESS = """
import sys
import fastreid_uda
import torch.distributed as dist
from fastreid.utils import comm
from tests.evaluation import make_people
from tests.evaluation.test_reid_evaluator import BlockwiseReidEvaluator, feed, make_cfg
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=sys.argv[2], rank=rank, world_size=2)
people = make_people()
mine = people._replace(**{
    name: values[:0] if name.startswith(("gallery", "query")[rank]) else values
    for name, values in people._asdict().items()
})
evaluator = feed(BlockwiseReidEvaluator(make_cfg(), 40), mine)
print(evaluator.evaluate().get("mAP"))
evaluator._num_query = 190  # no gallery: an error on rank 0
try:
    evaluator.evaluate()
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_evaluate__two_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    script = tmp_path / "evaluate.py"
    script.write_text(PROCESS)
    started = [processes.start([script, rank, address], tmp_path / str(rank)) for rank in (0, 1)]
    for process in started:
        process.join(timeout=120)
        process.kill()
    answers = [
        [(tmp_path / f"{rank}/{name}").read_text() for name in ("stdout", "stderr")]
        for rank in (0, 1)
    ]
    lines = [out.strip().splitlines() for out, _ in answers]
    assert [len(found) for found in lines] == [2, 2], answers
    alone = feed(BlockwiseReidEvaluator(make_cfg(), 40), make_people()).evaluate()["mAP"]
    assert float(lines[0][0]) == alone and lines[1][0] == "None"
    assert "gallery identities" in lines[0][1] and lines[1][1] == lines[0][1]
