"""T11: what a launcher says of processes that were ended."""

import argparse

import pytest
from torch.multiprocessing.spawn import ProcessExitedException

from fastreid_uda.engine import launch
from fastreid_uda.errors import UserError
from tests.helpers import ROOT


def arguments(**changes):
    options = {"config_file": str(ROOT / "configs/Synthetic/baseline.yml"), "opts": []}
    options |= {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    options |= {"resume": False, "eval_only": False}
    return argparse.Namespace(**options | changes)


@pytest.fixture
def ending(monkeypatch):
    import fastreid.engine

    def end(**how):
        def fail(*_, **__):
            raise ProcessExitedException("process 1 terminated", error_index=1, error_pid=7, **how)

        monkeypatch.setattr(fastreid.engine, "launch", fail)

    return end


def test_killed_process__is_one_sentence(ending):
    ending(exit_code=-9, signal_name="SIGKILL")
    with pytest.raises(UserError, match=r"Process 1 .* ended from outside \(SIGKILL.*--resume"):
        launch.start(print, arguments())


def test_process_that_has_said_why__ends_the_launcher_with_its_code(ending):
    ending(exit_code=2)
    with pytest.raises(SystemExit) as end:
        launch.start(print, arguments())
    assert end.value.code == 2


def test_machines__need_an_address():
    with pytest.raises(UserError, match="--dist-url does not say where they meet"):
        launch.start(print, arguments(num_machines=2))


def test_wrong_key__is_found_before_any_process_is_started(ending):
    ending(exit_code=1)
    with pytest.raises(UserError, match="UDA.ROUNDZ"):
        launch.start(print, arguments(opts=["UDA.ROUNDZ", "3"]))


def test_torchrun__counts_the_processes(monkeypatch):
    for name in launch._OF_TORCHRUN:
        monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match="torchrun starts the processes"):
        launch.start(print, arguments())
