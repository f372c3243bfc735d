"""The pages that are made from the code are current, and say what the code says."""

import argparse
import re
import shutil
from dataclasses import dataclass
from typing import ClassVar

import pytest

from fastreid_uda.cli import COMMANDS
from fastreid_uda.config_ranges import accepted_range
from fastreid_uda.reference.__main__ import PAGES, main
from fastreid_uda.reference.commands import parser_of
from fastreid_uda.reference.config_tables import class_tables
from fastreid_uda.reference.fields import field_meanings
from fastreid_uda.reference.tables import fill_page, table
from fastreid_uda.registry import Registry
from tests.helpers import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_page__is_current(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert fill_page(page, PAGES[name]()) == page, "run python -m fastreid_uda.reference"


def test_main__checks_and_writes(tmp_path, capsys):
    for name in PAGES:
        shutil.copy(ROOT / "docs" / name, tmp_path)
    page = tmp_path / "config.md"
    page.write_text(page.read_text(encoding="utf-8").replace("`UDA.ROUNDS` | `50`", "x | 49"))
    assert main(["--docs", str(tmp_path), "--check"]) == 1
    assert "config.md is not current" in capsys.readouterr().out
    assert "x | 49" in page.read_text(encoding="utf-8")
    assert main(["--docs", str(tmp_path)]) == 0
    assert main(["--docs", str(tmp_path), "--check"]) == 0
    assert page.read_bytes() == (ROOT / "docs/config.md").read_bytes()


def test_commands__all_are_on_the_page_with_all_their_options():
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert list(sections) == list(COMMANDS)
    for name, text in sections.items():
        for action in parser_of(name)._actions:
            hidden = action.help == argparse.SUPPRESS
            for option in action.option_strings if not hidden else ():
                assert option in ("-h", "--help") or f"`{option}" in text


@dataclass
class Example:
    """An example. With more."""

    name: ClassVar[str] = "x"  # no field
    # not of the next field, because of the blank line

    plain: int = 1
    behind: float = 2.0  # said # behind
    # said in
    # two lines
    above: tuple[str, ...] = ()
    # and | above
    both: str = "#"  # behind


def test_field_meanings__joins_comments_above_and_behind():
    assert field_meanings(Example) == {
        "plain": "",
        "behind": "said # behind",
        "above": "said in two lines",
        "both": "and | above behind",
    }


def test_class_tables__leaves_out_what_plugins_register():
    registry = Registry("UDA.X")
    registry.register(Example)
    assert class_tables(registry, "UDA.") == ""


def test_accepted_range__in_words():
    assert accepted_range("UDA.ROUNDS") == "0 or more"
    assert accepted_range("UDA.STABLE_ARI") == "between -1 and 1"
    assert accepted_range("UDA.METHOD") == ""


def test_table__escapes_what_would_end_a_cell():
    assert table(("a", "b"), [("1|2", "x\n y")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | x y |"


def test_fill_page__replaces_marked_parts_alone_and_names_missing_ones():
    page = "a\n<!-- made: one -->\nold\n<!-- end -->\nb\n"
    filled = "a\n<!-- made: one -->\n\nnew\n\n<!-- end -->\nb\n"
    assert fill_page(page, {"one": "new\n"}) == filled
    assert fill_page(filled, {"one": "new"}) == filled
    with pytest.raises(KeyError, match="two"):
        fill_page(page, {"one": "", "two": ""})
