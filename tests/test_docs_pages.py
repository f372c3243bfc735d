"""The pages of docs/: what they name exists, what they say of presets is so, and they build."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from fastreid.config import get_cfg

from fastreid_uda.cli import COMMANDS
from fastreid_uda.config import add_uda_config
from fastreid_uda.config_loading import load_config
from fastreid_uda.config_values import all_keys
from fastreid_uda.labeling.refiners import REFINERS
from fastreid_uda.reference.commands import parser_of
from tests.helpers import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
METHODS = ("baseline", "msplr", "nplp", "secret", "p2lr", "inclr")
PACKAGES = ("labeling", "engine", "modeling", "data", "evaluation", "reference", "cli")
EXAMPLES = {"UDA.LARGEST", "UDA.LARGEST.SHARE", "UDA.DISTANCE.POWEREUCLIDEAN.POWER"}  # extending.md

THEIRS = {"tools/test_reid.py"}  # files of other repositories, in migration.md


def page_name(path):
    return str(path.relative_to(ROOT / "docs"))


@cache
def text_of(path):
    return path.read_text(encoding="utf-8")


@cache
def keys_and_groups():
    cfg = get_cfg()
    add_uda_config(cfg)
    keys = all_keys(cfg)
    return set(keys) | {key.rsplit(".", n)[0] for key in keys for n in (1, 2, 3)}


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_page__names_files_that_exist(path):
    rooted = re.findall(r"(?<![\w/.])((?:configs|tools|tests|benchmarks|fastreid_uda)/[\w/*-]+"
                        r"(?:\.yml|\.py)?)(?![\w/])", text_of(path))  # fmt: skip
    below = re.findall(rf"(?<![\w/.])((?:{'|'.join(PACKAGES)})/[\w/]+\.py)", text_of(path))
    for name in [*rooted, *(f"fastreid_uda/{name}" for name in below)]:
        assert name in THEIRS or any(ROOT.glob(name)), name


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_page__names_keys_that_exist(path):
    for key in re.findall(r"\b(UDA(?:\.[A-Z0-9_]+)+)\b", text_of(path)):
        assert key in keys_and_groups() | EXAMPLES, key


def command_lines():
    """(page, name, words after it) of all `fastreid-uda NAME ...` in blocks of code."""
    for path in PAGES:
        for block in re.findall(r"^```\w*(?: title=.*)?\n(.*?)^```$", text_of(path), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.match(r"\s*(?:\$ )?(fastreid-uda|python tools/(\w+)\.py) (.*)", line)
                if match and path.name != "commands.md":
                    words = shlex.split(match[3], comments=True)
                    script = {"train_net": "train", "label_features": "label",
                              "rank_features": "rank"}  # fmt: skip
                    name = match[2] and script.get(match[2], match[2].replace("_", "-"))
                    yield page_name(path), name or words[0], words if name else words[1:]


def test_commands_of_pages__exist_with_their_options():
    found = list(command_lines())
    assert len(found) > 20
    for page, name, words in found:
        if name.startswith("--"):
            assert name in ("--version", "--help")
            continue
        assert name in COMMANDS, f"{page}: {name}"
        known = {option for action in parser_of(name)._actions for option in action.option_strings}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page}: {name} {word}"


def test_configs_of_commands__exist():
    shipped = re.compile(r"(configs/)?(Duke2|Market2|MSMT2|USL/|Synthetic/)")
    for page, _, words in command_lines():
        for option, value in pairwise(words):
            if option == "--config-file" and shipped.match(value):
                file = ROOT / "configs" / value.removeprefix("configs/")
                assert file.is_file(), f"{page}: {value}"


def method_table():
    """Row -> {method: cell} of methods/index.md."""
    lines = re.findall(r"^\| (.*) \|$", text_of(ROOT / "docs/methods/index.md"), re.MULTILINE)
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    return {row[0]: dict(zip(METHODS, row[1:], strict=True)) for row in rows
            if len(row) == 1 + len(METHODS)}  # fmt: skip


def eps_in_words(cluster):
    if cluster.NAME == "KMeans":
        return "none"
    when = "every round" if cluster.EPS_UPDATE == "every" else "first round"
    return f"`{cluster.EPS_RULE}`, {when}" if cluster.EPS is None else str(cluster.EPS)


@pytest.mark.parametrize("method", METHODS)
def test_methods__table_is_that_of_the_presets(method):
    cfg = load_config(str(ROOT / f"configs/Duke2Market/{method}.yml"))
    uda, rows = cfg.UDA, {row: cells[method] for row, cells in method_table().items()}
    teacher, heads = uda.MEAN_TEACHER, cfg.MODEL.HEADS
    parts = heads.PARTS.NAMES if heads.NAME == "MultiViewHead" else ()
    assert rows["refiner"] == (", ".join(f"`{name}`" for name in uda.REFINERS) or "none")
    assert rows["clusterer"] == f"`{uda.CLUSTER.NAME}`"
    measured = uda.CLUSTER.NAME != "KMeans"
    assert rows["distance"] == (f"`{uda.DISTANCE.NAME}`" if measured else "none")
    assert rows["eps"] == eps_in_words(uda.CLUSTER)
    assert rows["camera normalisation"] == ("yes" if uda.CAMERA_NORMALIZATION else "no")
    assert rows["views beside `global`"] == str(len(parts))
    assert rows["networks with a teacher"] == str(teacher.ENABLED * teacher.STUDENTS)
    assert rows["rounds"] == str(uda.ROUNDS)
    epochs = f"{cfg.SOLVER.MAX_EPOCH} of {uda.ITERS_PER_EPOCH} iterations"
    whole = f"{cfg.SOLVER.MAX_EPOCH}, whole passes"
    assert rows["epochs of a round"] == (epochs if uda.ITERS_PER_EPOCH else whole)


def without_cameras(method, *overrides):
    """Whether the labeling of a preset takes features without cameras."""
    from fastreid_uda.config import build_labeler
    from fastreid_uda.errors import UserError

    cfg = load_config(str(ROOT / f"configs/Duke2Market/{method}.yml"), list(overrides))
    try:
        build_labeler(cfg).check_cameras(None)
    except UserError:
        return False
    return True


def test_methods__need_cameras_as_the_table_says():
    for method, said in method_table()["needs cameras"].items():
        assert without_cameras(method) == (said == "no"), method
    assert without_cameras(
        "msplr", "UDA.CAMERA_NORMALIZATION", "False", "UDA.MSPLR.MIN_CAMERAS", "1"
    )
    assert without_cameras("nplp", "UDA.CLUSTER.EPS_RULE", "Rho")


@pytest.mark.parametrize("method", ["NPLP", "P2LR", "INCLR"])
def test_page_of_a_method__has_the_defaults_of_its_keys(method):
    page = text_of(ROOT / f"docs/methods/{method.lower()}.md")
    part = page.partition(f"The keys of `UDA.{method}`:\n\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| `(.*?)` \|", part, re.MULTILINE))
    defaults = {key.upper(): value for key, value in REFINERS.defaults(method).items()}
    assert {key: yaml.safe_load(value) for key, value in rows.items()} == defaults


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_page__has_no_escapes_that_are_shown(path):
    # a pipe is escaped in cells of tables, but not inside of code, where the backslash is shown
    prose = re.sub(r"^```.*?^```$", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
    for line in prose.splitlines():
        assert not any("\\|" in code for code in line.split("`")[1::2]), line


def navigated(entries):
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from navigated(value) if isinstance(value, list) else [value]


@pytest.mark.slow
def test_site__builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    pages = navigated(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(pages) == [page_name(path) for path in PAGES]
    html = [path.read_text(encoding="utf-8") for path in Path(tmp_path / "site").rglob("*.html")]
    assert len(html) == len(PAGES) + 1  # and 404.html
    for page in html:
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//[^"]*"', page)
        assert not re.findall(r'<link[^>]* href="(?:https?:)?//[^"]*"[^>]*stylesheet', page)
        assert not re.findall(r'stylesheet[^>]* href="(?:https?:)?//', page)
    assert (tmp_path / "site/search/search_index.json").is_file()
