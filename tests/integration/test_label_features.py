"""tools/label_features.py as a user types it."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT, make_features

TOOL = str(ROOT / "tools/label_features.py")
BASELINE = str(ROOT / "configs/Synthetic/baseline.yml")
MSPLR = str(ROOT / "configs/Synthetic/msplr.yml")
FEW = ["UDA.DISTANCE.JACCARD.K1", "8", "UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "2"]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("label_features", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, capsys):
    """The tool in this process; the finished call as subprocess gives it."""

    def call(*arguments):
        code = tool.main(list(map(str, arguments)))
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
        ({"global": np.where(X > 2, np.nan, X)}, "not finite"),
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
