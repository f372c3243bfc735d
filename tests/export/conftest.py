"""What the tests of exports share."""

import pytest

from fastreid_uda.export.sources import open_source
from fastreid_uda.export.writing import Request, write_export
from tests.helpers import write_market


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """The folder of a tiny Market-1501 on which no network is always right."""
    root = tmp_path_factory.mktemp("images")
    write_market(root, test_identities=12, seed=3)
    return root


@pytest.fixture(autouse=True)
def market(images, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(images))
    return images


@pytest.fixture
def export(tmp_path):
    """Exports a run and gives what export.json holds."""

    def write(given, *formats, choice=None, overrides=(), **request):
        out = tmp_path / "out"
        source = open_source(str(given), None, choice, overrides)
        return write_export(source, Request(str(out), formats or ("fastreid",), **request))

    return write


@pytest.fixture
def run(tmp_path):
    """An empty folder for a run."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"
