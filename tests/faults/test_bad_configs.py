"""Config files and overrides: whatever is in them loads or is refused in one sentence."""

import os
import tempfile

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config, source_config
from fastreid_uda.config_values import all_keys, get, merge_pair
from fastreid_uda.errors import UserError
from tests.helpers import ROOT

BASELINE = str(ROOT / "configs/Synthetic/baseline.yml")
DEFAULT = load_config(BASELINE)
KEYS = all_keys(DEFAULT)
WORDS = sorted({word for key in KEYS for word in key.split(".")} | {"_BASE_"})


def sentence_of(function, *arguments):
    """None if it loads; else the sentence, which is one line."""
    try:
        function(*arguments)
    except UserError as error:
        assert len(str(error).splitlines()) == 1, error
        return str(error)
    return None


def write(folder, content, name="own.yml"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["None", "()", "[]", "('a',)", "auto", "1e3", "-1", "[1, 2]", "nan", "{}"])
)  # fmt: skip
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.lists(LEAVES, max_size=3).map(tuple)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_any_key__loads_or_is_refused_by_name(key, value):
    said = sentence_of(load_config, BASELINE, [key, value])
    assert said is None or key in said


NAMES = st.sampled_from(WORDS) | st.text(max_size=6)
TREES = st.recursive(
    VALUES, lambda inner: st.dictionaries(NAMES, inner, max_size=3) | inner, max_leaves=6
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tree=st.dictionaries(NAMES, TREES, max_size=3))
def test_any_mapping__loads_or_is_refused(tree):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "own.yml")
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump(_plain(tree), file)
        sentence_of(load_config, path)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=st.text(st.sampled_from("UDA:ROUNDS-&*!<>[]{},'\"|# \n\t0é"), max_size=40))
def test_any_text__loads_or_is_refused(text):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "own.yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        sentence_of(load_config, path)


def _plain(tree):
    """YAML has no tuples."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, list | tuple) else tree


@pytest.mark.parametrize("key", KEYS)
def test_every_key__refuses_another_kind_and_none(key):
    if key == "UDA.CLUSTER.EPS":
        return
    old = get(DEFAULT, key)
    for value in (object(), None, {"A": 1}):
        said = sentence_of(merge_pair, DEFAULT.clone(), key, value, "the command line")
        assert said.startswith(f"the command line sets {key} to ")
    if isinstance(old, list | tuple) and key not in ("UDA.SOURCE.OPTS", "KD.MODEL_CONFIG"):
        assert f"{key} is [[]]" in sentence_of(load_config, BASELINE, [key, [[]]]).replace(
            "([],)", "[[]]"
        )
    if isinstance(old, float) and key != "SOLVER.CLIP_GRADIENTS.NORM_TYPE":
        for number in (float("nan"), float("inf"), float("-inf")):
            assert key in sentence_of(load_config, BASELINE, [key, number])


@pytest.mark.parametrize(
    "key,value,sentence",
    [
        ("UDA.ROUNDS", 2.0, "which is not accepted: it must be an integer"),
        ("UDA.ROUNDS", True, "an integer"),
        ("UDA.DETERMINISTIC", 1, "True or False"),
        ("UDA.TARGET", "('Market1501')", r"a list, e.g. \"\('a',\)\""),
        ("UDA", "3", "a group of keys such as UDA.TARGET; set one of them"),
        ("UDA.ROUNDS.A", "3", r"the key UDA\.ROUNDS\.A, which does not exist"),
        ("SOLVER.BASE_LR", "0.0", "is 0.0, but it must be above 0"),
        ("SOLVER.MOMENTUM", "1.0", "0 or more and less than 1"),
        ("INPUT.SIZE_TRAIN", "[256]", "must be a list of 2 integers"),
        ("INPUT.SIZE_TEST", "[256, 12.5]", "must be a list of 2 integers"),
        ("INPUT.SIZE_TEST", "[256, 0]", "1 or more"),
        ("MODEL.PIXEL_STD", "[1, 1, 0]", "above 0"),
        ("MODEL.LOSSES.CE.EPSILON", "-0.5", "or -1, which smooths"),
        ("UDA.STABLE_ARI", "1.5", "between -1 and 1"),
        ("UDA.STABLE_CHANGE", "-0.1", "0 or more"),
        ("UDA.MEAN_TEACHER.EMA_DECAY", "1.5", "between 0 and 1"),
        ("UDA.SEED", str(2**32), "between 0 and"),
        ("UDA.REFINERS", "[['P2LR']]", "must be a list of names"),
        ("MODEL.HEADS.NECK_FEAT", "middle", "before, after"),
        ("INPUT.PADDING.MODE", "wrap", "constant, edge, reflect, symmetric"),
        ("MODEL.DEVICE", "cudaX", "set it to cuda, cuda:0 or cpu"),
        ("MODEL.DEVICE", "meta", "set it to cuda, cuda:0 or cpu"),
        ("MODEL.LOSSES.NAME", "()", "is empty, but training needs a loss"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "x", "norm, value"),
        ("UDA.SECRET.LOCAL_VIEWS", "(1,)", "must be a list of names"),
    ],
)
def test_value__kind_and_range(key, value, sentence):
    with pytest.raises(UserError, match=sentence):
        load_config(BASELINE, [key, value])


def test_value__is_read_as_its_key_takes_it():
    overrides = ["SOLVER.BASE_LR", "1", "UDA.METHOD", "7", "UDA.ROUNDS", "0",
                 "INPUT.SIZE_TEST", "(64, 32)", "UDA.CLUSTER.EPS", "1e-1"]  # fmt: skip
    cfg = load_config(BASELINE, overrides)
    assert type(cfg.SOLVER.BASE_LR) is float and cfg.UDA.METHOD == "7" and cfg.UDA.ROUNDS == 0
    assert cfg.INPUT.SIZE_TEST == [64, 32] and cfg.UDA.CLUSTER.EPS == 0.1


def test_options_of_the_source__are_checked():
    for options in ("['SOLVER.BASE_LR', 0]", "['SOLVER.BASE_LR']", "[None, 1]"):
        cfg = load_config(BASELINE, ["UDA.SOURCE.OPTS", options])
        with pytest.raises(UserError, match="SOLVER.BASE_LR|come in pairs|key None"):
            source_config(cfg, "source")
