"""tools/train_net.py as a user types it: whole runs, kills, resumes, mistakes."""

import json

import pytest
import torch
from PIL import Image

from tests.helpers import (
    ROOT,
    TINY,
    read_summary,
    train_net,
    write_market,
)

CONFIG = ROOT / "configs/Synthetic/msplr.yml"
OPTIONS = [*TINY, "SOLVER.MAX_EPOCH", "2", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "2"]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run of all three stages."""
    out = tmp_path_factory.mktemp("whole")
    stages = ["UDA.STAGES", "('source', 'adapt', 'supervised')"]
    process = train_net(CONFIG, "OUTPUT_DIR", str(out), *OPTIONS, *stages, data=data, fresh=True)
    return out, process


@pytest.mark.slow
def test_run__writes_the_summary(whole):
    out, _ = whole
    summary = read_summary(out)
    assert summary["method"] == "MSPLR"
    assert (summary["source"], summary["target"], summary["seed"]) == ("Market1501",) * 2 + (0,)
    for scores in (summary["direct_transfer"], summary["supervised"], *summary["rounds"]):
        assert {"mAP", "Rank-1", "Rank-5", "Rank-10", "mINP"} <= set(scores)
        assert 0 <= scores["mAP"] <= 100
    assert [entry["round"] for entry in summary["rounds"]] == [0, 1]
    for entry in summary["rounds"]:
        assert {"clusters", "outliers", "kept", "eps", "seconds", "quality"} <= set(entry)
    assert summary["last"] == summary["rounds"][-1]
    assert summary["best"]["mAP"] == max(entry["mAP"] for entry in summary["rounds"])


@pytest.mark.slow
def test_run__shows_tables_and_no_bars_in_a_log(whole):
    out, process = whole
    assert "direct transfer" in process.stdout and "upper bound" in process.stdout
    assert "it/s]" not in process.stdout + process.stderr
    log = (out / "log.txt").read_text()
    assert "Environment:" in log and "UDABaseline" in log and "it/s]" not in log
    assert "Environment:" not in process.stdout


@pytest.mark.slow
def test_run__leaves_checkpoints_labels_and_events(whole):
    out, _ = whole
    names = {path.name for path in out.iterdir()}
    expected = {"model_last.pth", "model_final.pth", "model_best.pth", "labels", "metrics.json"}
    assert expected <= names and {"source", "supervised", "config.yaml"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if name.startswith(".")], "temporary files"
    metrics = (out / "metrics.json").read_text()
    lines = [json.loads(line) for line in metrics.splitlines()]
    assert len([line for line in lines if "labels/clusters" in line]) == 2
    assert len([line for line in lines if "mAP" in line]) == 2


@pytest.mark.slow
def test_second_run__uses_the_source_network_and_repeats(whole, data):
    out, _ = whole
    before = weights(out)
    again = train_net(CONFIG, "OUTPUT_DIR", str(out), *OPTIONS, data=data)
    assert "which exists" in again.stdout and "Starting anew" in again.stdout
    assert (out / "earlier_run_1/model_final.pth").exists()
    assert all(torch.equal(before[key], value) for key, value in weights(out).items())


@pytest.mark.slow
def test_eval_only__repeats_the_score(whole, data, tmp_path):
    out, _ = whole
    process = train_net(
        CONFIG, "--eval-only", "OUTPUT_DIR", str(tmp_path), *OPTIONS,
        "MODEL.WEIGHTS", str(out / "model_final.pth"), data=data,
    )  # fmt: skip
    assert f"mAP {read_summary(out)['last']['mAP']:.2f}" in process.stdout


def weights(out):
    return torch.load(out / "model_final.pth", weights_only=True)["model"]


@pytest.mark.slow
def test_resume__of_a_finished_run_changes_nothing(whole, data):
    out, _ = whole
    before, summary = weights(out), read_summary(out)
    train_net(CONFIG, "--resume", "OUTPUT_DIR", str(out), *OPTIONS, data=data)
    assert all(torch.equal(before[key], value) for key, value in weights(out).items())
    assert read_summary(out) == summary


@pytest.mark.slow
@pytest.mark.parametrize("method", ["baseline", "msplr"])
def test_own_folder__without_identities_and_cameras(data, tmp_path, method):
    for n, path in enumerate(sorted(data.rglob("bounding_box_train/*.jpg"))):
        (tmp_path / "crops").mkdir(exist_ok=True)
        Image.open(path).save(tmp_path / "crops" / f"{n:03d} ü.png")
    out = tmp_path / "out"
    options = ["UDA.TARGET", "('PersonFolder',)", "DATASETS.TESTS", "()",
               "UDA.STAGES", "('adapt',)",
               "DATASETS.FOLDER.TRAIN", str(tmp_path / "crops"),
               "UDA.CAMERA_NORMALIZATION", "False", "UDA.MSPLR.MIN_CAMERAS", "1"]  # fmt: skip
    config = ROOT / f"configs/Synthetic/{method}.yml"
    train_net(config, "OUTPUT_DIR", str(out), *OPTIONS, *options, data=data)
    summary = read_summary(out)
    assert summary["direct_transfer"] == {} and summary["best"] == {}
    assert len(summary["rounds"]) == 2
    assert "mAP" not in summary["last"] and "nmi" not in summary["last"]["quality"]


@pytest.mark.slow
def test_own_folder__msplr_without_cameras_says_so(data, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "b.png")
    options = ["UDA.TARGET", "('PersonFolder',)", "DATASETS.TESTS", "()",
               "UDA.STAGES", "('adapt',)",
               "DATASETS.FOLDER.TRAIN", str(tmp_path)]  # fmt: skip
    process = train_net(
        CONFIG, "OUTPUT_DIR", str(tmp_path / "out"), *OPTIONS, *options, data=data, check=False
    )
    assert process.returncode == 2
    assert "UDA.CAMERA_NORMALIZATION needs them" in one_sentence(process)


def one_sentence(process):
    lines = process.stderr.strip().splitlines()
    assert "Traceback" not in process.stderr, process.stderr
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, process.stderr
    return errors[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options,sentence",
    [
        (["UDA.ROUNDZ", "3"], "did you mean UDA.ROUNDS?"),
        (["UDA.TARGET", "()"], "UDA.TARGET is empty"),
        (["UDA.TARGET", "('Marked1501',)"], "UDA.TARGET is 'Marked1501', but the known"),
        (["MODEL.LOSSES.NAME", "('Foo',)"], "MODEL.LOSSES.NAME is 'Foo'"),
        (["--eval-only"], "MODEL.WEIGHTS is empty"),
        (["--num-gpus", "2", "SOLVER.OPT", "Foo"], "SOLVER.OPT is 'Foo'"),
        (["DATASETS.NAMES", "('DukeMTMC',)"], "Data set DukeMTMC cannot be read"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "nowhere.pth"),
        (["MODEL.BACKBONE.PRETRAIN", "True", "MODEL.BACKBONE.PRETRAIN_PATH", "no.pth"], "no.pth"),
    ],
)
def test_mistakes__one_sentence_and_nothing_left_behind(data, tmp_path, options, sentence):
    out = tmp_path / "out"
    flags = [word for word in options[:2] if word.startswith("--") or word == "2"]
    overrides = ["OUTPUT_DIR", str(out), *OPTIONS, *options[len(flags) :]]
    process = train_net(CONFIG, *flags, *overrides, data=data, check=False)
    assert process.returncode == 2
    assert sentence in one_sentence(process)
    assert not out.exists()


@pytest.mark.slow
def test_unreadable_image__is_named(tmp_path):
    write_market(tmp_path / "data")
    broken = sorted((tmp_path / "data").rglob("bounding_box_train/*.jpg"))[3]
    broken.write_bytes(b"")
    process = train_net(
        CONFIG, "OUTPUT_DIR", str(tmp_path / "out"), *OPTIONS, data=tmp_path / "data", check=False
    )
    assert process.returncode == 2
    assert f"cannot be read: {broken} (the file is empty)" in one_sentence(process)
    assert not list((tmp_path / "out").glob("model_*.pth"))
