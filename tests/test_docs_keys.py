"""What the pages tell users to type exists: keys, config files, commands."""

import re
import shlex

import pytest

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.config_values import all_keys
from tests.helpers import ROOT

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
GROUPS = "UDA|MODEL|SOLVER|DATASETS|DATALOADER|INPUT|TEST|KD"
KEY = re.compile(rf"(?<![\w./'-])(?:{GROUPS})(?:\.[A-Z][A-Z0-9_]*)+(?![\w*<])")
CONFIG = re.compile(r"(?<![\w./-])configs/[\w./-]*\w\.yml")
MISTAKES = {"UDA.ROUNDZ"}
"""Keys that a page names because they are none."""


def name_of(path):
    return str(path.relative_to(ROOT))


def read(path):
    """The page; of the tables of the migration page without the options of others, left."""
    text = path.read_text(encoding="utf-8")
    if path.name == "migration.md":
        text = re.sub(r"^\| .*? \|", "|", text, flags=re.MULTILINE)
    return text


def keys_of(text):
    """The keys, but for those of the classes that the page shows how to write."""
    own = {name.upper() for name in re.findall(r"^class (\w+)", text, re.MULTILINE)}
    return {key for key in KEY.findall(text) if not own & set(key.split("."))}


def commands(text):
    """(config file, overrides) of each whole command of the blocks that names one of `configs/`."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if "--config-file configs/" not in line or re.search(r"\.\.\.|[<>|$]", line):
                continue
            words = shlex.split(line, comments=True)
            at = words.index("--config-file")
            after = words[at + 2 :]
            first = next((n for n, word in enumerate(after) if KEY.fullmatch(word)), len(after))
            own = [n for n, word in enumerate(after) if n >= first and word.startswith("--")]
            yield words[at + 1], after[first : own[0] if own else None]


COMMANDS = [
    (page, config, overrides)
    for page in PAGES
    for config, overrides in commands(read(page))
    if "UDA.PLUGINS" not in overrides  # files of the reader's own: tests/test_extending.py
]


@pytest.fixture(scope="module")
def known():
    """All keys, and the groups that they are in."""
    keys = set(
        all_keys(load_config(str(ROOT / "configs/Base-UDA.yml"), ["UDA.TARGET", "('VeRi',)"]))
    )
    groups = {key.rsplit(".", n)[0] for key in keys for n in range(1, key.count(".") + 1)}
    return keys | groups | {"OUTPUT_DIR"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page__names_keys_that_exist(page, known):
    assert sorted(keys_of(read(page)) - known - MISTAKES) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page__names_config_files_that_exist(page):
    named = set(CONFIG.findall(page.read_text(encoding="utf-8")))
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []


@pytest.mark.parametrize(
    "page,config,overrides", COMMANDS, ids=[f"{name_of(p)}:{c}" for p, c, _ in COMMANDS]
)
def test_command__is_accepted(page, config, overrides):
    load_config(str(ROOT / config), overrides)


def test_the_patterns__find_what_they_are_for():
    text = "`UDA.CLUSTER.EPS` and MODEL.WEIGHTS, not logs/UDA.X, UDA.* or MODEL.dsbn; KD"
    assert keys_of(text) == {"UDA.CLUSTER.EPS", "MODEL.WEIGHTS"}
    assert CONFIG.findall(
        "`configs/USL/VeRi/secret.yml` a/configs/no.yml configs/X/nplp_*.yml"
    ) == ["configs/USL/VeRi/secret.yml"]
    block = (
        "```\npython tools/train_net.py --config-file configs/A/b.yml --resume \\\n"
        "    UDA.TARGET \"('VeRi',)\" OUTPUT_DIR x --num-gpus 2  # words\n"
        "python x --config-file configs/<pair>/b.yml\n```\n"
    )
    assert list(commands(block)) == [
        ("configs/A/b.yml", ["UDA.TARGET", "('VeRi',)", "OUTPUT_DIR", "x"])
    ]
    assert len(COMMANDS) > 20
