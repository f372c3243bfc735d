"""What the tests of training share."""

import pytest

from tests.helpers import write_market


@pytest.fixture
def market(tmp_path, monkeypatch):
    write_market(tmp_path / "data")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    return tmp_path
