"""A run that was stopped, and what may happen to its files."""

import logging
import os
import shutil
from contextlib import contextmanager

import pytest
import torch

from tests.engine.training import make_trainer, train_until
from tests.helpers import write_market


@contextmanager
def run_stopped_after(epoch, folder):
    """A trainer of two rounds of two epochs, stopped after an epoch, whose data are in the folder.

    Inside the block runs in the folder find the data, and the logs of ours are heard.
    """
    write_market(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(folder / "data"))
        patch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
        trainer = make_trainer(folder)
        train_until(trainer, epoch)
        yield trainer


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    """A folder with the data and a run of two rounds, stopped after three epochs of four."""
    folder = tmp_path_factory.mktemp("run")
    with run_stopped_after(2, folder) as trainer:
        (folder / "out/config.yaml").write_text(trainer.cfg.dump())
        shutil.copytree(folder / "out", folder / "kept")
        yield folder


@pytest.fixture
def out(stopped_run):
    """The output folder of the run, as it was."""
    shutil.rmtree(stopped_run / "out")
    shutil.copytree(stopped_run / "kept", stopped_run / "out")
    return stopped_run / "out"


class RunsACommand:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def flip(path, position=None, bit=0):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 1 << bit
    path.write_bytes(content)


def damage(path, how):
    content = path.read_bytes()
    if how == "flipped":
        flip(path)
    elif how == "code":
        torch.save({"model": RunsACommand()}, path)
    elif how == "list":
        torch.save([1, 2], path)
    else:
        path.write_bytes({"half": content[: len(content) // 2], "empty": b"", "text": b"x\n"}[how])


DAMAGES = {
    "flipped": "data/.* does not match its checksum",
    "half": "truncated or no checkpoint",
    "empty": "truncated or no checkpoint",
    "text": "truncated or no checkpoint",
    "code": "holds the Python object .*system, which could run any code",
    "list": "no checkpoint",
}
