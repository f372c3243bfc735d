"""docs/reproduction.md: every published row has a config that runs it, every config has a row."""

import re
import shlex
from dataclasses import dataclass
from functools import cache

import pytest

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.engine.run_state import flat_config
from fastreid_uda.yaml_files import base_chain
from tests.helpers import ROOT

CONFIGS = ROOT / "configs"
PAGE = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
METHODS = ("MSPLR", "NPLP", "SECRET", "P2LR", "INCLR")
HEADER = ["row", "config", "mAP", "R-1", "R-5", "R-10", "ours", "note"]
DATA_SETS = {"Market-1501": "Market1501", "DukeMTMC-reID": "DukeMTMC", "MSMT17": "MSMT17TrainVal"}
FOUR = r"\d+\.\d( / \d+\.\d){3}"
MEASURED = rf"(last {FOUR}, best {FOUR}|{FOUR}) \[(?P<number>\d+)\]"


@dataclass(frozen=True)
class Row:
    """A row of a table, under the headings of its method and its task."""

    method: str
    task: str
    cells: tuple[str, ...]

    def __getattr__(self, name):
        return self.cells[HEADER.index({"r1": "R-1", "r5": "R-5", "r10": "R-10"}.get(name, name))]

    @property
    def command(self):
        """The path below configs/ and the overrides."""
        file, *overrides = shlex.split(self.config.strip("`"))
        return file, tuple(overrides)

    @property
    def published(self):
        return self.cells[2:6]

    def __str__(self):
        return f"{self.method}, {self.task}, {self.row}"


def tables(text):
    """[(heading 2, heading 3, [cells of a line])] of all lines of tables but the dashes."""
    found, second, third = [], "", ""
    for line in text.splitlines():
        if line.startswith("## "):
            second, third = line[3:], ""
        elif line.startswith("### "):
            third = line[4:]
        elif line.startswith("| ") and not line.startswith("| ---"):
            found.append((second, third, [cell.strip() for cell in line.split("|")[1:-1]]))
    return found


LINES = tables(PAGE)
ROWS = [Row(second, third, tuple(cells)) for second, third, cells in LINES
        if second in METHODS and cells != HEADER]  # fmt: skip
UNPUBLISHED = [cells[0].strip("`") for second, _, cells in LINES
               if second == "Configs without a published row" and cells[0] != "config"]  # fmt: skip


@cache
def config(file, overrides=()):
    return load_config(str(CONFIGS / file), list(overrides))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row__has_a_config_of_its_method_task_and_stage(row):
    assert len(row.cells) == len(HEADER)
    file, overrides = row.command
    cfg = config(file, overrides)
    chain = {str(path) for path in base_chain(str(CONFIGS / file))}
    main = f"{row.method.lower()}.yml"
    assert any(path.endswith(f"/{main}") for path in chain), f"{file} is not made from a {main}"
    source, arrow, target = row.task.partition(" -> ")
    if arrow:
        assert list(cfg.DATASETS.NAMES) == [DATA_SETS[source]]
        stages = ["supervised"] if row.row.endswith("supervised") else ["source", "adapt"]
        assert list(cfg.UDA.STAGES) == stages
    else:
        target = source.removesuffix(" without a source")
        assert cfg.DATASETS.NAMES == () and cfg.UDA.STAGES == ("adapt",)
    assert cfg.UDA.TARGET == cfg.DATASETS.TESTS == (DATA_SETS[target],)
    untrained = re.search(r"direct transfer|\bDT\b|pretraining", row.row, re.IGNORECASE)
    assert bool(untrained) == (cfg.UDA.ROUNDS == 0)


@pytest.mark.parametrize("row", [row for row in ROWS if row.command[1]], ids=str)
def test_row__with_overrides_changes_just_these_keys(row):
    file, overrides = row.command
    values, defaults = flat_config(config(file, overrides)), flat_config(config(file))
    assert {key for key in values if values[key] != defaults[key]} == set(overrides[::2])


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row__has_published_figures_or_says_why_not(row):
    figures = []
    for cell in row.published:
        assert re.fullmatch(r"-|\d+(\.\d|(\.\d)?\?)", cell), cell
        figures += [] if cell == "-" else [float(cell.rstrip("?"))]
    if not figures or "?" in "".join(row.published):
        assert row.note
    assert figures == sorted(figures)  # mAP, Rank-1, Rank-5, Rank-10
    assert all(0 < figure < 100 for figure in figures)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row__says_what_was_measured(row):
    if row.ours != "not measured yet":
        measured = re.fullmatch(MEASURED, row.ours)
        assert measured, f"{row.ours!r} is not one of the forms that the page lists"
        section = PAGE.partition("\n## Measurements\n")[2].partition("\n## ")[0]
        assert re.search(rf"^{measured['number']}\. ", section, re.MULTILINE)


def test_forms_of_a_measurement__are_those_the_page_lists():
    listed = re.findall(r"^\* `(.* \[1\])`", PAGE, re.MULTILINE)
    assert len(listed) == 2 and all(re.fullmatch(MEASURED, form) for form in listed)
    assert not re.fullmatch(MEASURED, "79.5 / 92.0 / 97.1 [1]")
    assert not re.fullmatch(MEASURED, listed[1].removesuffix(" [1]"))


def test_rows__are_in_tables_of_every_method():
    assert {row.method for row in ROWS} == set(METHODS)
    headers = [cells for second, _, cells in LINES if second in METHODS and cells[0] == "row"]
    assert headers == [HEADER] * len({(row.method, row.task) for row in ROWS})


def test_rows__are_different_runs():
    commands = [row.command for row in ROWS]
    assert [command for command in set(commands) if commands.count(command) > 1] == []


def test_configs__are_in_a_row_or_in_the_list_of_those_without_one():
    files = {
        str(path.relative_to(CONFIGS))
        for folder in CONFIGS.iterdir()
        if folder.is_dir() and folder.name not in ("Source", "Synthetic")
        for path in folder.rglob("*.yml")
    }
    with_row = {row.command[0] for row in ROWS}
    assert len(UNPUBLISHED) == len(set(UNPUBLISHED))
    assert with_row & set(UNPUBLISHED) == set()
    advice = "add it to the list at the end of docs/reproduction.md, if no paper has its row"
    assert files - with_row - set(UNPUBLISHED) == set(), advice
    assert set(UNPUBLISHED) - files == set()
