"""Whole runs of P2LR and INCLR as a user types them: two sources, two teachers, a kill."""

import numpy as np
import pytest
import torch

from tests import processes
from tests.helpers import ROOT, TINY, read_summary, train_net

P2LR = ROOT / "configs/Synthetic/p2lr.yml"
INCLR = ROOT / "configs/Synthetic/inclr.yml"
# Fewer steps on the source leave all features alike to the last digits.
OPTIONS = [*TINY, "UDA.ROUNDS", "4", "UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER", "6",
           "UDA.P2LR.P0", "0.3", "UDA.P2LR.H", "1.5",
           "UDA.SOURCE.OPTS", "['SOLVER.MAX_EPOCH', 2, 'UDA.ITERS_PER_EPOCH', 20]"]  # fmt: skip
IMAGES = 36  # of the tiny Market-1501


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    process = train_net(P2LR, "OUTPUT_DIR", str(out), *OPTIONS, data=data)
    return out, process


def schedule(t, last, p0=0.3, h=1.5):
    """P2LR Eq. 10."""
    return p0 + np.log(1 + (np.exp(h * (1 - p0)) - 1) * t / last) / h


@pytest.mark.slow
def test_run__trains_two_sources_and_tests_two_teachers(whole):
    out, process = whole
    for n in (1, 2):
        state = torch.load(out / f"source_{n}/model_final.pth", weights_only=True)
        assert state["seed"] == n
    summary = read_summary(out)
    assert summary["method"] == "P2LR"
    for scores in (summary["direct_transfer"], *summary["rounds"]):
        assert {"mAP", "teacher_2/mAP"} <= set(scores)
    assert "direct transfer, teacher 2" in process.stdout


@pytest.mark.slow
def test_run__keeps_as_many_images_as_the_schedule_says(whole):
    kept = [entry["kept"] for entry in read_summary(whole[0])["rounds"]]
    expected = [max(1, int(schedule(t, 3) * IMAGES + 1e-9)) for t in range(4)]
    assert kept == expected and kept[-1] == IMAGES


@pytest.mark.slow
def test_run__the_least_uncertain_images_are_kept(whole):
    for path in sorted((whole[0] / "labels").glob("round_*.npz")):
        arrays = np.load(path)
        kept, u = arrays["labels/global"] >= 0, arrays["uncertainty"]
        assert np.isfinite(u).all() and (u >= 0).all()
        assert not (~kept).any() or u[kept].max() < u[~kept].min()
        assert (arrays["labels/global"][kept] == arrays["clusters/global"][kept]).all()


@pytest.mark.slow
def test_figure__uncertainty_of_right_and_wrong_labels_from_a_rounds_file(whole, tmp_path):
    figure = tmp_path / "uncertainty.png"
    tool = ROOT / "tools/plot_uncertainty.py"
    done = processes.run([tool, whole[0] / "labels/round_000.npz", "--out", figure], timeout=60)
    assert done.returncode == 0, done.stderr
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_eval_only__tests_both_teachers_as_the_run_did(whole, data, tmp_path):
    out, _ = whole
    process = train_net(
        P2LR, "--eval-only", "OUTPUT_DIR", str(tmp_path), *OPTIONS,
        "MODEL.WEIGHTS", str(out / "model_final.pth"), data=data,
    )  # fmt: skip
    last = read_summary(out)["last"]
    assert f"mAP {last['mAP']:.2f}" in process.stdout
    assert f"teacher_2/mAP {last['teacher_2/mAP']:.2f}" in process.stdout


@pytest.mark.slow
def test_inclr__weights_change_after_the_first_round_and_parts_share_labels(whole, data, tmp_path):
    sources = [str(whole[0] / f"source_{n}/model_final.pth") for n in (1, 2)]
    train_net(
        INCLR, "OUTPUT_DIR", str(tmp_path), *OPTIONS, "UDA.STAGES", "('adapt',)",
        "MODEL.WEIGHTS", sources[0], "UDA.MEAN_TEACHER.WEIGHTS", f"('{sources[1]}',)",
        "UDA.INCLR.K", "0.1", "UDA.CLUSTER.NAME", "KMeans", data=data,
    )  # fmt: skip
    summary = read_summary(tmp_path)
    assert summary["method"] == "INCLR" and len(summary["rounds"]) == 4
    files = [np.load(path) for path in sorted((tmp_path / "labels").glob("round_*.npz"))]
    kept = [file["labels/global"] >= 0 for file in files]
    assert (files[0]["weights"][kept[0]] == 1).all()  # the teachers still equal the students
    assert (files[1]["weights"][kept[1]] < 1).all()
    for file in files:
        for n in (1, 2, 3):
            assert (file[f"labels/part{n}"] == file["labels/global"]).all()
