"""What the tests of faults share."""

import logging

import numpy as np
import pytest

from tests.engine.conftest import market  # noqa: F401
from tests.faults.damage import out, stopped_run  # noqa: F401  fixtures


@pytest.fixture
def save(tmp_path):
    """Writes arrays to an .npz file and gives its path."""

    def write(**arrays):
        np.savez(tmp_path / "f.npz", **arrays)
        return str(tmp_path / "f.npz")

    return write


@pytest.fixture
def heard(caplog, monkeypatch):
    """The log of our own loggers, also after a run has set them up."""
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    return caplog
