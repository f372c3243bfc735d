"""T11: two groups of processes that meet over the network, here over the loopback."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.faults.processes import free_port, needs_no_gpu
from tests.helpers import ROOT, TINY, read_summary, write_market

pytestmark = [needs_no_gpu, pytest.mark.slow]

TOOL = str(ROOT / "tools/train_net.py")
OPTIONS = ["--config-file", str(ROOT / "configs/Synthetic/baseline.yml"), *TINY,
           "SOLVER.MAX_EPOCH", "1", "UDA.STAGES", "('adapt',)"]  # fmt: skip


def start(command, folder):
    environment = os.environ | {"FASTREID_DATASETS": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(groups):
    try:
        return [(*group.communicate(timeout=120), group.returncode) for group in groups]
    finally:
        for group in groups:
            group.kill()


def test_torchrun__two_machines_make_one_run(tmp_path):
    write_market(tmp_path / "data")
    port = str(free_port())
    groups = [
        start(["-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(machine),
               "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", port,
               TOOL, *OPTIONS, "OUTPUT_DIR", str(tmp_path / "out")], tmp_path)
        for machine in range(2)
    ]  # fmt: skip
    (first, _, code), (second, errors, other) = finish(groups)
    assert (code, other) == (0, 0), errors
    assert "adapted: baseline" in first and "adapted: baseline" not in second
    assert len(read_summary(tmp_path / "out")["rounds"]) == 2
    labels = np.load(tmp_path / "out/labels/round_001.npz")["labels/global"]
    assert len(np.unique(labels[labels >= 0])) >= 2


def test_machines_with_different_configs__both_say_so(tmp_path):
    write_market(tmp_path / "data")
    url = f"tcp://127.0.0.1:{free_port()}"
    groups = [
        start([TOOL, "--num-machines", "2", "--machine-rank", str(machine), "--dist-url", url,
               *OPTIONS, "OUTPUT_DIR", str(tmp_path / "out"), "UDA.SEED", str(machine)], tmp_path)
        for machine in range(2)
    ]  # fmt: skip
    for _, errors, code in finish(groups):
        assert code == 2
        assert "The config of process 1 is not that of process 0" in errors.splitlines()[-1]
    assert not (tmp_path / "out/config.yaml").exists()
