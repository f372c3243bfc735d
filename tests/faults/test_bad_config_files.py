"""YAML files that are none, that hide something, or that name each other."""

import os

import pytest

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.errors import UserError
from tests.faults.test_bad_configs import BASELINE, write


@pytest.mark.parametrize(
    "content,sentence",
    [
        ("", "UDA.TARGET is empty"),
        ("UDA:\n\tROUNDS: 3\n", r"own\.yml is no YAML file .*cannot start any token.*correct it"),
        ("UDA: {ROUNDS: 3, ROUNDS: 4}\n", "the key ROUNDS is there twice; keep one"),
        ("UDA:\n  ROUNDS: 3\nTEST: {}\nUDA:\n  SEED: 1\n", "the key UDA is there twice"),
        ("- UDA\n", "no YAML mapping of config keys; write lines"),
        ("3\n", "no YAML mapping"),
        (b"UDA: {METHOD: \xff}\n", "no YAML file"),
        ("1: 2\n", "sets the key 1, which does not exist"),
        ("UDA.ROUNDS: 3\n", r"sets UDA\.ROUNDS with dots in its name.*UDA: \{ROUNDS: 3\}$"),
        ("UDA:\n  CLUSTER.EPS: 1\n", r"sets UDA\.CLUSTER\.EPS .* instead: CLUSTER: \{EPS: 1\}$"),
        ("UDA.CLUSTER: {EPS: 1}\n", r"nest it instead: UDA: \{CLUSTER: \.\.\.\}$"),
        ("UDA.ROUND: 3\n", r"UDA\.ROUND, which does not exist; did you mean UDA\.ROUNDS\?"),
        ("? [a]\n: 1\n", "no YAML file"),
        ("UDA: {ROUNDS: 2024-13-45}\n", "no YAML file"),
        ("UDA: {ROUNDS: 2024-01-02}\n", r"sets UDA\.ROUNDS to the date 2024-01-02.*an integer"),
        ("UDA: {TARGET: &a [*a]}\n", r"UDA\.TARGET is \(\[.*must be a list of names"),
        ("UDA: &a\n  ROUNDS: *a\n", "nested too deep|must be an integer"),
        ("[" * 1000, "nested too deep|no YAML"),
        ("_BASE_: 3\n", "has the _BASE_ 3, but it must be a file name"),
        ("_BASE_: gone.yml\n", r"gone\.yml does not exist; check its name and _BASE_"),
        ("_BASE_: .\n", "is a folder; give a YAML file"),
        ("UDA: {_BASE_: a.yml}\n", r"UDA\._BASE_, which does not exist"),
        ("UDA: {ROUNDS: .inf}\n", "it must be an integer"),
        (
            "UDA:\n  ROUNDS: 010\n",
            r"010 would be read as 8; write it in decimal.*line 2, col",
        ),
        ("UDA: {ROUNDS: 1:30}\n", "1:30 would be read as 90"),
        ("UDA: {ROUNDS: 0x10}\n", "0x10 would be read as 16"),
        ("UDA: {ROUNDS: 0b10}\n", "0b10 would be read as 2"),
        ("UDA: {STABLE_ARI: 1:30.5}\n", r"1:30\.5 would be read as 90\.5"),
        ("UDA: {METHOD: 010}\n", "in quotes if it is text"),
        ("UDA: {STABLE_ARI: .nan}\n", r"UDA\.STABLE_ARI is nan"),
    ],
)
def test_file__is_refused(tmp_path, content, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        load_config(write(tmp_path, content))
    assert len(str(caught.value).splitlines()) == 1


def test_file__cannot_run_code(tmp_path):
    mark = tmp_path / "mark"
    for tag in ("python/object/apply:os.mkdir", "python/object/new:os.mkdir"):
        with pytest.raises(UserError, match="no YAML file"):
            load_config(write(tmp_path, f"UDA: !!{tag} ['{mark}']\n"))
        with pytest.raises(UserError, match="no YAML file"):
            load_config(write(tmp_path, f"_BASE_: !!{tag} ['{mark}']\n"))
    assert not mark.exists()


def test_bases__in_a_loop(tmp_path):
    one, _ = write(tmp_path, "_BASE_: two.yml\n", "one.yml"), write(
        tmp_path, "_BASE_: one.yml\n", "two.yml")  # fmt: skip
    with pytest.raises(UserError, match=r"one\.yml is its own _BASE_: .*one\.yml -> .*two\.yml"):
        load_config(one)
    (tmp_path / "link.yml").symlink_to("self.yml")
    with pytest.raises(UserError, match="is its own _BASE_"):
        load_config(write(tmp_path, "_BASE_: link.yml\n", "self.yml"))
    (tmp_path / "round.yml").symlink_to("round.yml")
    with pytest.raises(UserError, match=r"round\.yml does not exist"):
        load_config(str(tmp_path / "round.yml"))


def test_file__that_cannot_be_read(tmp_path, monkeypatch):
    path = write(tmp_path, "UDA: {}\n")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="Permission denied"):
        patch.setattr("builtins.open", denied)
        load_config(path)
    with pytest.raises(UserError, match="is a folder"):
        load_config(str(tmp_path))


def test_group_without_keys__changes_nothing(tmp_path):
    own = write(tmp_path, f"_BASE_: {BASELINE}\nUDA:\nTEST:\n  # RERANK\n")
    assert load_config(own) == load_config(BASELINE)


def test_merge_keys_of_yaml__are_no_repetition(tmp_path):
    own = f"_BASE_: {BASELINE}\nUDA:\n  <<: {{ROUNDS: 3, SEED: 4}}\n  ROUNDS: 5\n"
    cfg = load_config(write(tmp_path, own))
    assert (cfg.UDA.ROUNDS, cfg.UDA.SEED) == (5, 4)


def test_base__in_the_home_folder_and_with_blanks(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    os.mkdir(tmp_path / "my ü")
    write(tmp_path / "my ü", f"_BASE_: {BASELINE}\nUDA: {{ROUNDS: 9}}\n", "a.yml")
    assert load_config(write(tmp_path, "_BASE_: ~/my ü/a.yml\n")).UDA.ROUNDS == 9
