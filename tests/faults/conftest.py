"""What the tests of faults share."""

import logging

import pytest

from tests.faults.damage import out, stopped_run  # noqa: F401  fixtures
from tests.helpers import write_market


@pytest.fixture
def market(tmp_path, monkeypatch):
    write_market(tmp_path / "data")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def heard(caplog, monkeypatch):
    """The log of our own loggers, also after a run has set them up."""
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    return caplog
