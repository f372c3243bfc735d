"""docs/faults.md names tests that exist, and has every failure mode and the shortest list whole."""

import re

import pytest

from tests.helpers import ROOT

FAULTS = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", FAULTS)))


@pytest.mark.parametrize("path,name", NAMED, ids=["::".join(named) for named in NAMED])
def test_faults__named_tests_exist(path, name):
    assert (ROOT / path).is_file()
    assert not name or re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_faults__has_all_rows_each_with_a_test():
    rows = re.findall(r"^\| (\d+) \| .+ \| .+ \| (.+) \|$", FAULTS, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 80))
    assert all(re.search(r"`tests/[\w/]+\.py::test_\w+`", tests) for _, tests in rows)


def test_faults__the_shortest_list_has_a_file_for_each():
    listed = re.findall(r"^\| T(\d+) \| .+ \| `tests/faults/test_t(\d+)_\w+\.py` \|$", FAULTS, re.M)
    assert [(int(a), int(b)) for a, b in listed] == [(n, n) for n in range(1, 13)]
