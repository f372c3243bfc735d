"""That the benchmarks run; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import person_features
from benchmarks.harness import memory_ratio

ROOT = Path(__file__).resolve().parents[1]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_person_features__are_repeatable_unit_rows():
    features, identities, cameras = person_features(500, 32, 4)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    assert features.dtype == np.float32 and set(cameras) == {0, 1, 2, 3}
    assert 15 < len(set(identities)) < 40
    again, *_ = person_features(500, 32, 4)
    np.testing.assert_array_equal(again, features)


def test_memory_ratio__divides_by_no_zero():
    def runs(*megabytes):
        return [{"extra_mb": x} for x in megabytes]

    assert memory_ratio(runs(30, 50), runs(10, 10)) == "4.0"
    assert memory_ratio(runs(30), runs(0)) == "30 MB / less than 1 MB"


@pytest.mark.slow
def test_label_stage__same_labels_and_all_figures(tmp_path):
    report, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    output = run("label_stage.py", "--images", 300, "--dim", 64, "--rounds", 1,
                 "--variants", "compiled", "numpy", "fastreid", "ivf",
                 "--json", report, "--plot", plot)  # fmt: skip
    assert "ivf and exact labels, adjusted Rand index: " in output
    assert "labels of all exact runs are equal: yes" in output
    content = json.loads(report.read_text())
    assert content["machine"]["cores"] and "label_stage.py" in content["command"]
    (size,) = content["sizes"]
    assert {"compiled", "numpy", "fastreid"} <= set(size["runs"])
    for (measured,) in size["runs"].values():
        assert measured["total"] >= measured["k-NN"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")
