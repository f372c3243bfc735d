"""UDA.PLUGINS: what is imported, from where, and what is refused."""

import itertools
import os
import sys

import pytest

from fastreid_uda.config_loading import load_config, source_config
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.refiners import REFINERS
from tests.helpers import ROOT

BASE = ROOT / "configs/Duke2Market/baseline.yml"
numbers = itertools.count()
REFINER = """
from dataclasses import dataclass
from fastreid_uda.labeling.refiners import REFINERS

@REFINERS.register
@dataclass(frozen=True)
class {name}:
    "Changes nothing."
    strength: float = 0.25  # of nothing

    def refine(self, inputs):
        return inputs.clusters
"""


@pytest.fixture
def plugin(tmp_path):
    """(name of a class, its file): registered under a name of its own, and forgotten again."""
    name = f"Nothing{next(numbers)}"
    path, before = tmp_path / f"own_{name.lower()}.py", list(sys.path)
    path.write_text(REFINER.format(name=name))
    yield name, path
    REFINERS._classes.pop(name, None)
    sys.modules.pop(path.stem, None)
    sys.path[:] = before


def write_config(path, plugins, **uda):
    keys = "".join(f"  {key}: {value}\n" for key, value in uda.items())
    path.write_text(f"_BASE_: {BASE}\nUDA:\n  PLUGINS: {plugins}\n{keys}")
    return str(path)


def test_import_plugins__makes_keys_of_fields(tmp_path, plugin):
    name, path = plugin
    own = write_config(tmp_path / "own.yml", f'("{path.name}",)', REFINERS=f'("{name}",)')
    cfg = load_config(own, [f"UDA.{name.upper()}.STRENGTH", "0.5"])
    assert cfg.UDA[name.upper()].STRENGTH == 0.5
    assert (str(path),) == cfg.UDA.PLUGINS


def test_import_plugins__config_that_is_written_out_loads_from_anywhere(tmp_path, plugin):
    name, path = plugin
    cfg = load_config(write_config(tmp_path / "own.yml", [path.name], REFINERS=f'("{name}",)'))
    (tmp_path / "elsewhere").mkdir()
    again = tmp_path / "elsewhere/config.yaml"
    again.write_text(cfg.dump())
    assert load_config(str(again)) == cfg


def test_import_plugins__file_beside_the_base_that_names_it(tmp_path, plugin):
    name, path = plugin
    write_config(tmp_path / "base.yml", [path.name])
    (tmp_path / "inside").mkdir()
    own = tmp_path / "inside/own.yml"
    own.write_text(f'_BASE_: ../base.yml\nUDA:\n  REFINERS: ("{name}",)\n')
    assert (str(path),) == load_config(str(own)).UDA.PLUGINS


def test_import_plugins__command_line_wins_and_counts_from_the_current_folder(
    tmp_path, plugin, monkeypatch
):
    name, path = plugin
    own = write_config(tmp_path / "own.yml", '("not_there.py",)')
    monkeypatch.chdir(tmp_path)
    cfg = load_config(own, ["UDA.PLUGINS", f"('{path.name}',)", "UDA.REFINERS", f"('{name}',)"])
    assert (str(path),) == cfg.UDA.PLUGINS
    assert load_config(own, ["UDA.PLUGINS", "()"]).UDA.PLUGINS == ()


def test_import_plugins__module_on_the_path(tmp_path, plugin, monkeypatch):
    name, path = plugin
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = load_config(
        str(BASE), ["UDA.PLUGINS", f"('{path.stem}',)", "UDA.REFINERS", f"('{name}',)"]
    )
    assert (path.stem,) == cfg.UDA.PLUGINS


def test_import_plugins__may_import_neighbours(tmp_path, plugin):
    _, path = plugin
    stem = f"neighbour_of_{path.stem}"
    (tmp_path / f"{stem}.py").write_text("VALUE = 3\n")
    path.write_text(f"import {stem}\nassert {stem}.VALUE == 3\n")
    load_config(str(BASE), ["UDA.PLUGINS", f"('{path}',)"])


@pytest.mark.parametrize(
    "value,sentence",
    [
        ("('nowhere.py',)", r"UDA\.PLUGINS names nowhere\.py, but there is no file /.*nowhere\.py"),
        (
            "('no_such_package.refiners',)",
            "names the module no_such_package.refiners, but there is none",
        ),
        ("('os.nothing',)", "names the module os.nothing, but there is none"),
        ("plugin", "must be a list"),
        ("(3,)", "a list of names in quotes"),
        ("('',)", "a list of names in quotes"),
    ],
)
def test_import_plugins__wrong_names_are_one_sentence(value, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        load_config(str(BASE), ["UDA.PLUGINS", value])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name,content,sentence",
    [
        ("broken_plugin.py", "x = 1\ndef (", r"cannot be imported \(SyntaxError.*line 2"),
        ("failing_plugin.py", "\n1 / 0\n", r"\(.*failing_plugin\.py, line 2: ZeroDivisionError"),
        ("needing_plugin.py", "import no_such_module\n", r"line 1: ModuleNotFoundError.*no_such"),
        ("ending_plugin.py", "import sys\nsys.exit(3)\n", r"line 2: SystemExit: 3\)"),
        ("second_msplr.py", REFINER.format(name="MSPLR"), "MSPLR is registered twice"),
        ("my-plugin.py", "", "is no name of a Python module; rename"),
        ("json.py", "", r"another module is called json \(.*\); rename the file"),
        ("sys.py", "", r"another module is called sys \(built.in\); rename the file"),
        ("yacs.py", "", r"another module is called yacs"),
    ],
)  # fmt: skip
def test_import_plugins__files_that_cannot_be_used_are_one_sentence(
    tmp_path, monkeypatch, name, content, sentence
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=sentence) as caught:
        load_config(str(BASE), ["UDA.PLUGINS", f"('{tmp_path / name}',)"])
    assert "\n" not in str(caught.value)


def test_import_plugins__two_files_of_one_name_are_refused(tmp_path, plugin):
    _, path = plugin
    other = tmp_path / "other" / path.name
    other.parent.mkdir()
    other.write_text("")
    with pytest.raises(UserError, match="another module is called"):
        load_config(str(BASE), ["UDA.PLUGINS", f"('{path}', '{other}')"])


def test_import_plugins__folder_with_blanks_and_umlauts(tmp_path, plugin):
    name, path = plugin
    folder = tmp_path / "meine Prüfung"
    folder.mkdir()
    os.rename(path, folder / path.name)
    cfg = load_config(write_config(folder / "own.yml", [path.name], REFINERS=f'("{name}",)'))
    assert (str(folder / path.name),) == cfg.UDA.PLUGINS


def test_source_recipe__must_not_name_plugins(tmp_path, plugin):
    _, path = plugin
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(f"UDA:\n  PLUGINS: ['{path}']\n")
    cfg = load_config(str(BASE), ["UDA.SOURCE.CONFIG", str(recipe)])
    with pytest.raises(UserError, match="sets UDA.PLUGINS, which comes too late"):
        source_config(cfg, "source")
