"""What several whole runs share."""

import pytest

from tests.helpers import write_market


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of a tiny Market-1501."""
    root = tmp_path_factory.mktemp("data")
    write_market(root)
    return root
