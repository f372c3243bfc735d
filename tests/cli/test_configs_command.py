"""`fastreid-uda configs`: what is shipped, and copies of it that work."""

import os

import pytest

from fastreid_uda.cli import configs
from fastreid_uda.config_loading import load_config
from fastreid_uda.shipped_configs import config_names, find_config, shipped_configs
from tests.helpers import ROOT


def test_list__is_every_config_of_the_repository(capsys):
    assert configs.main([]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == sorted(
        path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yml")
    )
    assert len(listed) > 50


@pytest.mark.parametrize(
    "word,expected",
    [
        ("Duke2Market/secret.yml", ["Duke2Market/secret.yml"]),
        ("configs/Duke2Market/secret.yml", ["Duke2Market/secret.yml"]),
        ("USL/Duke/", None),
        ("*/nplp.yml", None),
    ],
)
def test_names__choose_files_folders_and_patterns(capsys, word, expected):
    assert configs.main([word]) == 0
    listed = capsys.readouterr().out.split()
    if expected is None:
        start, end = ("USL/Duke/", "") if word.startswith("USL") else ("", "/nplp.yml")
        expected = [n for n in config_names() if n.startswith(start) and n.endswith(end)]
    assert listed == expected and listed


def test_copy__brings_bases_and_recipes_and_loads_elsewhere(tmp_path, capsys):
    assert configs.main(["Duke2Market/secret.yml", "--to", str(tmp_path)]) == 0
    copied = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert copied == {
        "Base-UDA.yml", "Duke2Market/secret.yml", "Source/mmt.yml", "Source/secret.yml",
    }  # fmt: skip
    cfg = load_config(str(tmp_path / "Duke2Market/secret.yml"))
    assert str(tmp_path / "Source/secret.yml") == cfg.UDA.SOURCE.CONFIG
    original = load_config(str(ROOT / "configs/Duke2Market/secret.yml"))
    cfg.UDA.SOURCE.CONFIG = original.UDA.SOURCE.CONFIG
    assert cfg == original
    assert "4 configs are in" in capsys.readouterr().out


def test_copy__replaces_nothing_without_force(tmp_path, capsys):
    own = tmp_path / "Base-UDA.yml"
    own.write_text("mine")
    assert configs.main(["Base-UDA.yml", "--to", str(tmp_path)]) == 2
    assert "has 1 of the files already, e.g. Base-UDA.yml; add --force" in capsys.readouterr().err
    assert own.read_text() == "mine"
    assert configs.main(["Base-UDA.yml", "--to", str(tmp_path), "--force"]) == 0
    assert own.read_text() == (ROOT / "configs/Base-UDA.yml").read_text()


@pytest.mark.parametrize("words,sentence", [
    (["Duke2Mars"], "'Duke2Mars' names no shipped config; there are Base-UDA.yml and"),
    (["--to", ""], "--to is empty; name a folder"),
    (["Base-UDA.yml", "--to", "FILE/x"], "where Base-UDA.yml cannot be written"),
])  # fmt: skip
def test_mistakes__are_one_sentence(tmp_path, capsys, words, sentence):
    (tmp_path / "file").write_text("")
    words = [word.replace("FILE", str(tmp_path / "file")) for word in words]
    assert configs.main(words) == 2
    assert sentence in capsys.readouterr().err


def test_find_config__shipped_names_anywhere_but_own_files_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = str(shipped_configs() / "Duke2Market/msplr.yml")
    assert find_config("configs/Duke2Market/msplr.yml") == shipped
    assert find_config("Duke2Market/msplr.yml") == shipped
    for path in ("../msplr.yml", "nowhere.yml", "/nowhere/Duke2Market/msplr.yml"):
        assert find_config(path) == path
    os.makedirs("Duke2Market")
    (tmp_path / "Duke2Market/msplr.yml").write_text("")
    assert find_config("Duke2Market/msplr.yml") == "Duke2Market/msplr.yml"


def test_base__may_be_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yml").write_text("_BASE_: configs/Duke2Market/msplr.yml\nUDA: {ROUNDS: 3}\n")
    cfg = load_config("own.yml")
    assert cfg.UDA.ROUNDS == 3 and cfg.UDA.REFINERS == ("MSPLR",)
