import pytest

from fastreid_uda.cli.report import main
from tests.helpers import write_market


@pytest.fixture
def report(capsys):
    def call(*arguments):
        code = main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without the drawings of their charts, which take seconds."""
    monkeypatch.setattr("fastreid_uda.report.page.to_svg", lambda chart: "<svg></svg>")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A tiny Market-1501."""
    root = tmp_path_factory.mktemp("data")
    write_market(root)
    return root
