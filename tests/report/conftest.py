import pytest

from tests.helpers import write_market


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A tiny Market-1501."""
    root = tmp_path_factory.mktemp("data")
    write_market(root)
    return root
