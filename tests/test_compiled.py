import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fastreid_uda import compiled

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("num_rows", [0, 1, 4, 10])
def test_over_rows__covers_all_rows_in_order(monkeypatch, threads, num_rows):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    blocks = compiled.over_rows(lambda start, stop: list(range(start, stop)), num_rows, 4)
    assert [row for block in blocks for row in block] == list(range(num_rows))
    assert all(1 <= len(block) <= 4 for block in blocks)


def test_over_rows__runs_blocks_side_by_side(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    meeting = threading.Barrier(2)
    # Neither block gets past the barrier alone.
    assert compiled.over_rows(lambda start, stop: meeting.wait(20) >= 0, 2, 1) == [True, True]


def test_over_rows__raises_what_a_block_raises(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        compiled.over_rows(lambda start, stop: 1 / (start - 2), 4, 1)


def test_num_threads__follows_omp_num_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert compiled.num_threads() == 7
    for unset in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unset)
        assert 1 <= compiled.num_threads() <= os.cpu_count()


def test_available__can_be_switched_off(monkeypatch):
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert not compiled.available()


def test_available__without_numba():
    code = """
import sys
sys.modules["numba"] = sys.modules["numba.core"] = None
from fastreid_uda import compiled
assert not compiled.available()
import numpy as np
from fastreid_uda.labeling.distances import Jaccard
features = np.eye(6, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
assert Jaccard(3, 2).measure(features).within(0.5).nnz == 12
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("error", ["OSError", "RuntimeError", "ImportError"])
def test_available__with_a_numba_that_does_not_load(tmp_path, error):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(f"raise {error}('libLLVM.so')\n")
    code = "from fastreid_uda import compiled; print(compiled.available())"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == "False"


def test_kernels__work_where_they_cannot_be_kept():
    pytest.importorskip("numba")
    code = (  # Numba finds no place for the code of a function that is in no file
        "from fastreid_uda import compiled\n"
        "def doubled(x): return 2 * x\n"
        "print(compiled.kernel(doubled)(21.0), compiled.kernel(doubled)(4.0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "42.0 8.0", done.stderr
    assert done.stderr.count("Set NUMBA_CACHE_DIR to a folder.") == 1


def test_kernels__are_compiled_once_and_kept(tmp_path):
    pytest.importorskip("numba")
    (tmp_path / "adding.py").write_text(
        "from fastreid_uda.compiled import kernel\n"
        "@kernel\n"
        "def add(x):\n"
        "    total = 0.0\n"
        "    for value in x:\n"
        "        total += value\n"
        "    return total\n"
    )
    code = (
        "import logging, sys; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "import numpy as np; from fastreid_uda import compiled; assert compiled.available()\n"
        "import adding; print(adding.add(np.arange(4.0)), adding.add(np.arange(3.0)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    outputs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                       text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]  # fmt: skip
    assert outputs[0][-1] == outputs[1][-1] == "6.0 3.0"
    assert sum("Compiling kernels" in line for line in outputs[0]) == 1
    assert not any("Compiling" in line for line in outputs[1])


def test_kernel__releases_the_lock():
    pytest.importorskip("numba")

    @compiled.kernel
    def doubled(x):
        return 2 * x

    assert doubled(np.float32(1.5)) == 3
    assert doubled.targetoptions["nogil"]
