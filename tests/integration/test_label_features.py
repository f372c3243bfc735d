"""tools/label_features.py as a user types it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fastreid_uda.cli import label
from fastreid_uda.labeling.clustering import DBSCAN
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.refiners.secret import agreeing
from fastreid_uda.labeling.types import OUTLIER, renumber
from tests.helpers import ROOT, make_features

TOOL = str(ROOT / "tools/label_features.py")
BASELINE = str(ROOT / "configs/Synthetic/baseline.yml")
MSPLR = str(ROOT / "configs/Synthetic/msplr.yml")
DUKE_TO_MARKET = str(ROOT / "configs/Duke2Market/baseline.yml")
SECRET = [
    "--config-file", DUKE_TO_MARKET, "UDA.REFINERS", "('SECRET',)", "UDA.CLUSTER.EPS", "0.6",
]  # fmt: skip
FEW = ["UDA.DISTANCE.JACCARD.K1", "8", "UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "2"]


@pytest.fixture
def run(capsys):
    """The tool in this process; the finished call as subprocess gives it."""

    def call(*arguments):
        code = label.main(list(map(str, arguments)))
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return call


@pytest.fixture
def saved(tmp_path):
    features, identities = make_features(noise=0.1)
    path = tmp_path / "features.npz"
    np.savez(path, camera_ids=features.camera_ids, identities=identities, **features.views)
    return path, tmp_path / "labels.npz"


@pytest.mark.parametrize("config", [BASELINE, MSPLR])
def test_labels__file_and_line(run, saved, config):
    path, out = saved
    process = run(path, "--config-file", config, "--out", out, *FEW)
    assert process.returncode == 0, process.stderr
    line = json.loads(process.stdout)
    assert set(line) >= {
        "clusters", "outliers", "kept", "eps", "seconds", "peak_rss_mb", "quality",
    }  # fmt: skip
    arrays = np.load(out)
    assert arrays["labels/global"].dtype == np.int64 and arrays["labels/global"].shape == (96,)
    assert arrays["centroids/global"].shape == (arrays["labels/global"].max() + 1, 32)
    assert arrays["weights"].shape == (96,)
    assert float(arrays["eps/global"]) == line["eps"]
    assert line["kept"] == (arrays["labels/global"] >= 0).sum()
    assert line["quality"]["purity"] > 0.9


def test_labels__repeat_bit_for_bit(run, saved):
    path, out = saved
    other = out.with_name("again.npz")
    for target in (out, other):
        run(path, "--config-file", BASELINE, "--out", target, *FEW, "UDA.CLUSTER.EPS", "None")
    first, second = np.load(out), np.load(other)
    assert all((first[key] == second[key]).all() for key in first.files)


def write(path, **arrays):
    np.savez(path, **arrays)


X = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)


@pytest.mark.parametrize(
    "arrays,sentence",
    [
        ({"features": X}, "the array 'global' is missing"),
        ({"global": X.astype(int)}, "'global' is int64"),
        ({"global": X[0]}, "'global' is float32 of shape (8,)"),
        ({"global": X, "camera_ids": np.zeros(3, int)}, "'camera_ids' has 3 entries"),
        ({"global": X, "camera_ids": np.zeros(40)}, "'camera_ids' is float64"),
        ({"global": X, "top": X[:3]}, "'top' has 3 entries"),
        ({"global": np.where(X > 2, np.nan, X), "camera_ids": np.arange(40)}, "not finite"),
        ({"global": np.array([[object()]])}, "holds Python objects"),
        ({"global": X}, "UDA.MSPLR"),
    ],
)
def test_bad_arrays__one_sentence_and_code_2(run, tmp_path, arrays, sentence):
    write(tmp_path / "f.npz", **arrays)
    out = tmp_path / "l.npz"
    process = run(
        tmp_path / "f.npz", "--config-file", MSPLR, "--out", out, *FEW,
        "UDA.CAMERA_NORMALIZATION", "False",
    )  # fmt: skip
    assert process.returncode == 2, process.stdout
    assert sentence in process.stderr and len(process.stderr.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        (["--config-file", "nowhere.yml"], "nowhere.yml does not exist"),
        (["--config-file", BASELINE, "--round", "99"], "--round is 99"),
    ],
)
def test_bad_arguments__one_sentence(run, saved, arguments, sentence):
    path, out = saved
    process = run(path, "--out", out, *arguments)
    assert process.returncode == 2 and sentence in process.stderr


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"text"])
def test_no_npz__one_sentence(run, tmp_path, content):
    (tmp_path / "f.npz").write_bytes(content)
    process = run(tmp_path / "f.npz", "--config-file", BASELINE, "--out", tmp_path / "l.npz")
    assert process.returncode == 2 and "not an .npz file" in process.stderr


def test_as_typed__in_a_process_of_its_own(saved):
    path, out = saved
    command = [sys.executable, TOOL, path, "--config-file", BASELINE, "--round", "1", "--out", out]
    done = subprocess.run([*map(str, command), *FEW], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["clusters"] == 12


def test_missing_file__one_sentence(run, tmp_path):
    process = run(tmp_path / "no.npz", "--config-file", BASELINE, "--out", tmp_path / "l.npz")
    assert process.returncode == 2 and "no such file" in process.stderr


@pytest.fixture
def three_views(tmp_path):
    """A file with "global" in the middle, and its views as unit rows."""
    features, identities = make_features(noise=1.0, seed=3)
    rng = np.random.default_rng(0)
    views = {}
    for view in ("top", "global", "bottom"):
        x = features.views["global"] + 0.4 * rng.normal(size=(96, 32))
        views[view] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    path = tmp_path / "views.npz"
    np.savez(path, identities=identities, **views)
    return path, tmp_path / "labels.npz", views


@pytest.mark.parametrize("local_views", [("top", "bottom"), ("bottom",)])
def test_secret__labels_of_a_file_equal_those_of_the_functions(run, three_views, local_views):
    path, out, views = three_views
    process = run(path, "--out", out, *SECRET, *FEW, "UDA.SECRET.LOCAL_VIEWS", local_views)
    assert process.returncode == 0, process.stderr
    raw = {
        view: DBSCAN(2).cluster(x, Jaccard(k1=8, k2=6).measure(x), 0.6, 0)
        for view, x in views.items()
    }
    keep = {view: y != OUTLIER for view, y in raw.items()}
    for local in local_views:
        keep["global"] = keep["global"] & agreeing(raw["global"], raw[local], 0.4)
        keep[local] = agreeing(raw[local], raw["global"], 0.4)
    arrays = np.load(out)
    for view, labels in raw.items():
        expected, _ = renumber(np.where(keep[view], labels, OUTLIER), by_appearance=True)
        assert (arrays[f"labels/{view}"] == expected).all()
        assert (arrays[f"clusters/{view}"] == labels).all()
    trained = np.logical_and.reduce(list(keep.values()))
    assert ((arrays["weights"] > 0) == trained).all()
    line = json.loads(process.stdout)
    assert line["kept"] == trained.sum() < keep["global"].sum()
    assert line["quality"]["consistency"] > line["quality"]["clusters/consistency"]
    assert {"top/nmi", "top/eps", "accuracy", "consistency/global-top"} <= set(line["quality"])


def test_join_views__one_label_for_all_views(run, three_views):
    path, out, _ = three_views
    process = run(path, "--out", out, *SECRET, *FEW, "UDA.REFINERS", "()", "UDA.JOIN_VIEWS", "True")
    assert process.returncode == 0, process.stderr
    arrays = np.load(out)
    assert (arrays["labels/global"] == arrays["labels/top"]).all()
    assert (arrays["labels/global"] == arrays["labels/bottom"]).all()


def test_secret__one_view_only_is_refused_before_labeling(run, saved):
    path, out = saved
    process = run(path, "--out", out, *SECRET, *FEW)
    assert process.returncode == 2 and not out.exists()
    assert "SECRET compares views and needs 'global' and at least one more" in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


P2LR = ["--config-file", str(ROOT / "configs/Duke2Market/p2lr.yml")]
P2LR += ["UDA.CLUSTER.KMEANS.NUM_CLUSTERS", "12", "UDA.ROUNDS", "3"]
INCLR = ["--config-file", DUKE_TO_MARKET, "UDA.REFINERS", "('INCLR',)", "UDA.CLUSTER.EPS", "0.6"]


def test_p2lr__file_has_uncertainty_and_identities(run, saved):
    path, out = saved
    process = run(path, "--out", out, *P2LR, "--round", "1")
    assert process.returncode == 0, process.stderr
    line, arrays = json.loads(process.stdout), np.load(out)
    # p_1 of three rounds is 0.7368 at t/T = 1/2
    assert line["kept"] == int(0.7368 * 96) and (arrays["clusters/global"] >= 0).all()
    u = arrays["uncertainty"]
    assert u.shape == (96,) and u.dtype == np.float32 and np.isfinite(u).all()
    kept = arrays["labels/global"] >= 0
    assert u[kept].max() <= u[~kept].min()
    assert (arrays["identities"] == np.load(path)["identities"]).all()
    assert line["quality"]["uncertainty/mean"] == pytest.approx(u.mean())


def test_inclr__weights_by_the_students_features_of_a_file(run, three_views):
    path, out, views = three_views
    arrays = dict(np.load(path))
    student = views["global"] + 0.1 * np.random.default_rng(5).normal(size=(96, 32))
    np.savez(path, **arrays, **{"student/global": student})
    process = run(path, "--out", out, *INCLR, *FEW)
    assert process.returncode == 0, process.stderr
    line, arrays = json.loads(process.stdout), np.load(out)
    assert (arrays["labels/global"] == arrays["labels/top"]).all()
    kept = arrays["labels/global"] >= 0
    assert arrays["weights"][kept] == pytest.approx(np.exp(-arrays["uncertainty"][kept]))
    assert 0 < line["quality"]["weight/mean"] < 1


def test_inclr__file_without_the_students_is_refused(run, three_views):
    path, out, _ = three_views
    process = run(path, "--out", out, *INCLR, *FEW)
    assert process.returncode == 2 and not out.exists()
    assert "INCLR needs the array 'student/global' beside the views" in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
