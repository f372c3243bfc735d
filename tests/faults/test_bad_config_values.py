"""Values of the right kind that are too large, and values written in another way than expected."""

import datetime
import os

import pytest

from fastreid_uda.config_loading import load_config, source_config
from fastreid_uda.config_values import INTEGERS, NUMBERS, all_keys, get
from fastreid_uda.errors import UserError
from tests.faults.test_bad_configs import BASELINE, DEFAULT, KEYS, sentence_of, write

LARGE = 10**20


@pytest.mark.parametrize("key", [key for key in KEYS if type(get(DEFAULT, key)) is int])
def test_integer__has_a_limit(key):
    for number in (LARGE, -LARGE, 10**4000):
        said = sentence_of(load_config, BASELINE, [key, number])
        assert said.startswith(f"{key} is ") and len(said) < 200


@pytest.mark.parametrize("key", [*INTEGERS, *NUMBERS])
def test_integer_in_a_list__has_a_limit(key):
    value = [LARGE] * max(len(get(DEFAULT, key)), 1)
    assert "2**31 - 1 in size" in sentence_of(load_config, BASELINE, [key, str(value)])


def test_limits__at_their_ends():
    assert load_config(BASELINE, ["UDA.ROUNDS", str(2**31 - 1)]).UDA.ROUNDS == 2**31 - 1
    assert load_config(BASELINE, ["UDA.SEED", str(2**32 - 1)]).UDA.SEED == 2**32 - 1
    assert "in size" in sentence_of(load_config, BASELINE, ["UDA.ROUNDS", str(2**31)])
    options = ["UDA.SOURCE.OPTS", f"['UDA.SEED', {2**32 - 1}]"]
    assert source_config(load_config(BASELINE, options), "source").UDA.SEED == 2**32 - 1


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1e400", "nan", "-1e400"])
def test_eps__is_finite(value):
    assert sentence_of(load_config, BASELINE, ["UDA.CLUSTER.EPS", value]).startswith("UDA.CLUSTER.")


@pytest.mark.parametrize(
    "key,value,sentence",
    [
        ("OUTPUT_DIR", None, "to nothing .its value is empty., .* it must be text.$"),
        ("OUTPUT_DIR", datetime.date(2024, 1, 2), "to the date 2024-01-02.*put quotes around it"),
        ("UDA.METHOD", 3, "it must be text; put quotes around it.$"),
        ("UDA.METHOD", ["a"], "it must be text.$"),
        ("UDA.ROUNDS", None, "to nothing .its value is empty., .* it must be an integer.$"),
        ("INPUT.SIZE_TRAIN", 3, r"a list of integers, e\.g\. \"\[64, 32\]\""),
        ("SOLVER.STEP_FACTORS", 3, r"a list of numbers, e\.g\. \"\[1, 2\]\""),
        ("UDA.REFINERS", "P2LR", r"a list, e\.g\. \"\('a',\)\""),
    ],
)
def test_other_kind__is_called_by_its_name(key, value, sentence):
    with pytest.raises(UserError, match=sentence):
        load_config(BASELINE, [key, value])


def test_members_of_a_list_of_numbers__are_read_like_single_ones(tmp_path):
    own = f"_BASE_: {BASELINE}\nMODEL: {{PIXEL_MEAN: [1e2, 1e-1, 3]}}\n"
    assert load_config(write(tmp_path, own)).MODEL.PIXEL_MEAN == [100.0, 0.1, 3]
    for value in (["a", 1, 2], [None, 1, 2], ["[1]", 1, 2]):
        said = sentence_of(load_config, BASELINE, ["MODEL.PIXEL_MEAN", value])
        assert "must be a list of 3 numbers" in said
    views = load_config(BASELINE, ["UDA.SECRET.LOCAL_VIEWS", ["1e2"]]).UDA.SECRET.LOCAL_VIEWS
    assert list(views) == ["1e2"]


@pytest.mark.parametrize("text,value", [("true", True), ("false", False), ("False", False)])
def test_boolean__in_lower_case(text, value):
    assert load_config(BASELINE, ["UDA.DETERMINISTIC", text]).UDA.DETERMINISTIC is value
    method = load_config(BASELINE, ["UDA.METHOD", text]).UDA.METHOD
    assert method == text


def test_home_folder__is_expanded_in_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    own = write(tmp_path, "MODEL: {BACKBONE: {PRETRAIN_PATH: ~/p.pth}}\n", "recipe.yml")
    overrides = ["OUTPUT_DIR", "~/out", "MODEL.WEIGHTS", "~/a.pth", "UDA.SOURCE.CONFIG", own,
                 "DATASETS.FOLDER.TRAIN", "~/train", "DATASETS.FOLDER.PATTERN", "~/x",
                 "UDA.MEAN_TEACHER.ENABLED", "true", "UDA.MEAN_TEACHER.STUDENTS", "2",
                 "UDA.MEAN_TEACHER.WEIGHTS", "('~/b.pth',)"]  # fmt: skip
    cfg = load_config(BASELINE, overrides)
    home = str(tmp_path)
    assert os.path.dirname(cfg.OUTPUT_DIR) == os.path.dirname(cfg.MODEL.WEIGHTS) == home
    assert tuple(cfg.UDA.MEAN_TEACHER.WEIGHTS) == (f"{home}/b.pth",)
    assert get(cfg, "DATASETS.FOLDER.TRAIN") == f"{home}/train"
    assert get(cfg, "DATASETS.FOLDER.PATTERN") == "~/x"  # no path
    source = source_config(cfg, "source")
    assert get(source, "MODEL.BACKBONE.PRETRAIN_PATH") == f"{home}/p.pth"
    assert source.OUTPUT_DIR.startswith(home)


def test_every_config__is_loaded_again_from_its_dump(tmp_path):
    again = load_config(write(tmp_path, load_config(BASELINE).dump()))
    assert all(get(again, key) == get(DEFAULT, key) for key in all_keys(DEFAULT))
