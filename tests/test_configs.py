"""Every YAML merges, is legal and builds its parts; every key is read somewhere; mistakes are
explained."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from fastreid.config import get_cfg

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config import add_uda_config, build_labeler
from fastreid_uda.config_keys import HOST, KEYS
from fastreid_uda.config_loading import load_config, source_config
from fastreid_uda.config_values import all_keys
from fastreid_uda.engine.run_state import flat_config
from fastreid_uda.engine.trainer import UDATrainer
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.refiners import REFINERS
from fastreid_uda.modeling.losses import LOSSES
from fastreid_uda.yaml_files import base_chain
from tests.helpers import ROOT

RECIPES = sorted((ROOT / "configs/Source").glob("*.yml"))
CONFIGS = sorted(set((ROOT / "configs").rglob("*.yml")) - set(RECIPES))
RUNNABLE = [path for path in CONFIGS if path.name != "Base-UDA.yml"]


@cache
def _loaded(path):
    return load_config(str(path))


def load(path):
    """A config of the repository; its files are read once."""
    return _loaded(path).clone()


def name_of(path):
    return str(path.relative_to(ROOT / "configs"))


@pytest.mark.parametrize("path", RUNNABLE, ids=name_of)
def test_config__merges_and_builds_its_labeler(path):
    cfg = load(path)
    labeler = build_labeler(cfg)
    assert [type(refiner).__name__ for refiner in labeler.refiners] == list(cfg.UDA.REFINERS)
    assert cfg.UDA.TARGET
    assert cfg.OUTPUT_DIR.startswith("logs/")


@pytest.mark.parametrize("path", RUNNABLE, ids=name_of)
def test_config__builds_its_network_and_recipe(path):
    cfg = load(path)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    on_meta = cfg.clone()
    on_meta.MODEL.DEVICE = "meta"
    with torch.device("meta"):  # the layers and their shapes, without the numbers
        model = UDATrainer.build_model(on_meta)
        model.start_round(dict.fromkeys(model.views, 3), None)
    build_labeler(cfg).check_views(model.views)
    assert set(cfg.TEST.VIEWS) <= set(model.views)
    for stage in ("source", "supervised"):
        recipe = source_config(cfg, stage)
        assert recipe.MODEL.BACKBONE == cfg.MODEL.BACKBONE
        assert recipe.UDA.FREEZE_EPOCHS == 0
        heads = recipe.MODEL.HEADS.clone()
        heads.defrost()
        # Source training may keep local losses out of the backbone (SECRET), and has no dropout.
        heads.PARTS.DETACH, heads.DROPOUT = cfg.MODEL.HEADS.PARTS.DETACH, cfg.MODEL.HEADS.DROPOUT
        assert heads == cfg.MODEL.HEADS
        assert not any(LOSSES.get(name).needs_teacher for name in recipe.MODEL.LOSSES.NAME)


def test_configs__have_output_folders_of_their_own():
    owners = {}
    for path in RUNNABLE:
        owners.setdefault(load(path).OUTPUT_DIR, []).append(name_of(path))
    assert [names for names in owners.values() if len(names) > 1] == []


def test_every_key__is_read_somewhere():
    package = ROOT / "fastreid_uda"
    declared = [package / "config_keys", package / "reference"]
    source = "\n".join(
        path.read_text()
        for path in package.rglob("*.py")
        if path.name != "config.py" and not set(declared) & set(path.parents)
    )
    config = (package / "config.py").read_text()
    reading = source + config[config.index("def _build(") :]
    refiners = "|".join(name.upper() for name in REFINERS)
    generated = re.compile(rf"^UDA\.(DISTANCE|CLUSTER|{refiners})\.\w+(\.\w+)?$")
    for key in all_keys(load(ROOT / "configs/Synthetic/baseline.yml").UDA, "UDA."):
        name = key.rsplit(".", 1)[1]
        if generated.match(key) and name not in ("NAME", "EPS", "EPS_RULE", "EPS_UPDATE"):
            continue  # made from a constructor argument, which is read by definition
        assert re.search(rf"\.{name}\b", reading), key


def test_every_key__is_documented():
    text = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z0-9_.]+)` \|.*\| (.*?) \|$", text, re.MULTILINE))
    ours = set(all_keys(load(ROOT / "configs/Synthetic/baseline.yml"))) - set(all_keys(get_cfg()))
    described = {key.name for key in KEYS if key.default is HOST}  # of fast-reid, with more names
    assert set(rows) == ours | described
    assert all(rows.values())


def test_keys__are_declared_once():
    names = [key.name for key in KEYS]
    assert len(names) == len(set(names))
    host = set(all_keys(get_cfg()))
    assert {key.name for key in KEYS if key.default is HOST} == host & set(names)


def test_losses_of_the_package__have_declared_keys_with_their_defaults():
    cfg = get_cfg()
    add_uda_config(cfg)
    for name in LOSSES:
        node = cfg.MODEL.LOSSES[LOSSES.get(name).node]
        if LOSSES.get(name).node in get_cfg().MODEL.LOSSES:
            continue
        arguments = {key.upper(): value for key, value in LOSSES.defaults(name).items()}
        declared = {key.name for key in KEYS}
        assert dict(node) == arguments
        assert {f"MODEL.LOSSES.{LOSSES.get(name).node}.{key}" for key in arguments} <= declared


@pytest.mark.parametrize("name", ["duke_to_market.yml"])
def test_inheritance__from_outside_the_configs_folder(tmp_path, name):
    own = tmp_path / name
    own.write_text(f"_BASE_: {ROOT}/configs/Duke2Market/baseline.yml\nUDA:\n  ROUNDS: 7\n")
    cfg = load_config(str(own))
    assert cfg.UDA.ROUNDS == 7
    assert Path(cfg.UDA.SOURCE.CONFIG) == ROOT / "configs/Source/mmt.yml"


def test_overrides__win_over_files_and_reach_the_source_stage():
    overrides = ["UDA.CLUSTER.NAME", "KMeans", "MODEL.BACKBONE.DEPTH", "34x",
                 "UDA.SOURCE.OPTS", "['SOLVER.MAX_EPOCH', 3]"]  # fmt: skip
    cfg = load_config(str(ROOT / "configs/Duke2Market/baseline.yml"), overrides)
    assert type(build_labeler(cfg).clusterer).__name__ == "KMeans"
    recipe = source_config(cfg, "source")
    assert recipe.SOLVER.MAX_EPOCH == 3
    assert recipe.MODEL.BACKBONE.DEPTH == "34x"
    assert recipe.DATASETS.NAMES == ("DukeMTMC",)
    assert source_config(cfg, "supervised").DATASETS.NAMES == ("Market1501",)


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["UDA.CLUSTER.MIN_SAMPELS", "3"], r"UDA\.CLUSTER\.MIN_SAMPELS, which does not exist"),
        (["UDA.ROUND", "3"], r"did you mean UDA\.ROUNDS\?"),
        (
            ["UDA.ROUNDS", "many"],
            r"UDA\.ROUNDS to 'many', which is not accepted: it must be an integer",
        ),
        (["UDA.ROUNDS", "-1"], r"UDA\.ROUNDS is -1, but it must be 0 or more"),
        (["UDA.TARGET", "()"], r"UDA\.TARGET is empty"),
        (
            ["UDA.REFINERS", "('P2RL',)"],
            r"UDA\.REFINERS is 'P2RL', but the known names are: .*MSPLR",
        ),
        (["UDA.CLUSTER.NAME", "Dbscan"], r"UDA\.CLUSTER\.NAME is 'Dbscan'.*DBSCAN, KMeans"),
        (["UDA.CLUSTER.EPS", "-0.5"], r"UDA\.CLUSTER\.EPS"),
        (["UDA.DISTANCE.NAME", "L1"], r"UDA\.DISTANCE\.NAME is 'L1'.*Cosine, Euclidean, Jaccard"),
        (["UDA.DISTANCE.JACCARD.K1", "0"], r"UDA\.DISTANCE\.JACCARD\.K1"),
        (["UDA.STAGES", "('adpat',)"], r"UDA\.STAGES is 'adpat'.*source, adapt, supervised"),
        (["UDA.SOURCE.CONFIG", "nowhere.yml"], r"UDA\.SOURCE\.CONFIG is 'nowhere\.yml'"),
        (["SOLVER.IMS_PER_BATCH", "62"], r"SOLVER\.IMS_PER_BATCH is 62.*multiple"),
        (["UDA.ROUNDS"], "come in pairs"),
        (["DATALOADER.NUM_WORKERS", "-1"], r"DATALOADER\.NUM_WORKERS is -1"),
        (["UDA.RESTART_SCHEDULE", "False", "SOLVER.SCHED", "MultiStepLR"], "needs the schedule"),
        (["UDA.CLUSTER.EPS", "1.5"], "Jaccard distances end at 1.0"),
        (["SOLVER.STEP_FACTORS", "[0.3]"], "needs one factor, 0 or more, for each of SOLVER.STEPS"),
        (["SOLVER.STEPS", "[9, 5]", "SOLVER.STEP_FACTORS", "[0.3, 0.1]"], "which ascend"),
        (["SOLVER.STEPS", "[5]", "SOLVER.STEP_FACTORS", "['a']"], r"STEP_FACTORS is \['a'\]"),
        (
            ["SOLVER.STEPS", "[5]", "SOLVER.STEP_FACTORS", "[0.3]", "SOLVER.SCHED", "MultiStepLR"],
            "STEP_FACTORS needs the schedule",
        ),
        (["UDA.CLASSIFIER_INIT", "zeros"], r"UDA\.CLASSIFIER_INIT is 'zeros'.*centroids, random"),
    ],
)
def test_mistakes_on_the_command_line__are_explained(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        load_config(str(ROOT / "configs/Duke2Market/baseline.yml"), overrides)


@pytest.mark.parametrize(
    "content,sentence",
    [
        ("UDA:\n  ROUNDZ: 3\n", "UDA.ROUNDZ, which does not exist"),
        ("UDA: 3\n", "not accepted|does not exist"),
        ("- a\n- b\n", "no YAML mapping"),
        ("a: [\n", "no YAML file"),
        ("_BASE_: other.yml\n", "other.yml does not exist"),
        ("_BASE_: own.yml\n", "is its own _BASE_"),
        ("UDA:\n  TARGET: 5\n", "not accepted"),
        (
            f"_BASE_: {ROOT}/configs/Duke2Market/baseline.yml\nTEST:\n  ETA: .nan\n",
            r"TEST\.ETA is nan, but it must be 0 or more",
        ),
    ],
)
def test_mistakes_in_a_file__are_explained(tmp_path, content, sentence):
    own = tmp_path / "own.yml"
    own.write_text(content)
    with pytest.raises(UserError, match=sentence):
        load_config(str(own))


def test_missing_file__is_named():
    with pytest.raises(UserError, match=r"nowhere\.yml does not exist"):
        load_config("nowhere.yml")


def test_base_chain__nearest_first():
    chain = base_chain(str(ROOT / "configs/Market2Duke/msplr.yml"))
    assert [Path(path).name for path in chain] == ["msplr.yml", "msplr.yml", "Base-UDA.yml"]


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_recipe__leaves_no_schedule_and_no_teacher_of_the_run(recipe):
    overrides = ["SOLVER.STEPS", "[5, 9]", "SOLVER.STEP_FACTORS", "[0.3, 0.1]",
                 "UDA.SOURCE.CONFIG", str(recipe),
                 "UDA.SOURCE.OPTS", "['UDA.MEAN_TEACHER.ENABLED', True]"]  # fmt: skip
    cfg = load_config(str(ROOT / "configs/Synthetic/secret.yml"), overrides)
    source = source_config(cfg, "source")
    assert source.SOLVER.STEP_FACTORS == [] and source.SOLVER.STEPS != [5, 9]
    assert not source.UDA.MEAN_TEACHER.ENABLED


def test_target_statistics__are_switched_off_by_the_options_of_the_source():
    path = str(ROOT / "configs/Duke2Market/secret.yml")
    off = ["UDA.SOURCE.OPTS", "['UDA.SOURCE.TARGET_BN', False]"]
    assert source_config(load_config(path), "source").UDA.SOURCE.TARGET_BN
    assert not source_config(load_config(path, off), "source").UDA.SOURCE.TARGET_BN
    alone = ["UDA.STAGES", "('source',)", "UDA.TARGET", "()"]
    source_config(load_config(path, [*off, *alone]), "source")
    with pytest.raises(UserError, match=r"add UDA\.SOURCE\.OPTS .*'UDA.SOURCE.TARGET_BN', False"):
        source_config(load_config(path, alone), "source")


@pytest.mark.parametrize("task", ["Duke2Market", "Market2Duke", "Market2MSMT", "Duke2MSMT"])
def test_secret__presets_of_paper_and_code(task):
    cfg = load(ROOT / f"configs/{task}/secret.yml")
    losses = cfg.MODEL.LOSSES
    scales = [losses[node].SCALE for node in ("CE", "TRI", "SOFT_CE", "SOFT_TRI")]
    assert scales == [0.5, 0.2, 0.5, 0.8] and len(losses.NAME) == 4
    assert losses.CE.EPSILON == 0.1 and losses.CE.SMOOTHING == "all"
    assert losses.TRI.MARGIN == 0.0 and losses.TRI.HARD_MINING and not losses.TRI.NORM_FEAT
    assert cfg.MODEL.HEADS.PARTS.NAMES == ("top", "bottom") and cfg.MODEL.HEADS.PARTS.BOTTLENECK
    assert not cfg.MODEL.HEADS.PARTS.DETACH and cfg.MODEL.BACKBONE.LAST_STRIDE == 1
    assert (cfg.UDA.SECRET.K, cfg.UDA.SECRET.DENOMINATOR) == (0.4, "valid")
    assert (cfg.UDA.ROUNDS, cfg.UDA.ITERS_PER_EPOCH, cfg.SOLVER.MAX_EPOCH) == (50, 400, 1)
    assert cfg.UDA.MEAN_TEACHER.EMA_DECAY == 0.999 and not cfg.UDA.MEAN_TEACHER.EMA_BUFFERS
    assert cfg.UDA.CLUSTER.EPS is None and cfg.UDA.DISTANCE.JACCARD.K1 == 30
    recipe = source_config(cfg, "source")
    assert [recipe.MODEL.LOSSES[node].SCALE for node in ("CE", "TRI")] == [1.0, 1.0]
    assert recipe.MODEL.HEADS.PARTS.DETACH and recipe.UDA.SOURCE.TARGET_BN
    assert recipe.SOLVER.MAX_EPOCH * recipe.UDA.ITERS_PER_EPOCH == 8000
    assert not recipe.INPUT.REA.ENABLED and cfg.INPUT.REA.ENABLED


SECRET_ROWS = {
    "secret_joint": {"TEST.VIEWS": ("global", "top", "bottom")},
    "secret_no_teacher": {"UDA.MEAN_TEACHER.ENABLED": False},
    "secret_no_teacher_joint": {"TEST.VIEWS": ("global", "top", "bottom"),
                                "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_baseline": {"MODEL.HEADS.NAME": "PseudoLabelHead", "UDA.REFINERS": (),
                        "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_no_refinement": {"UDA.REFINERS": (), "UDA.JOIN_VIEWS": False,
                             "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_naive": {"UDA.REFINERS": (), "UDA.JOIN_VIEWS": True,
                     "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_no_top": {"UDA.SECRET.LOCAL_VIEWS": ("bottom",), "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_no_bottom": {"UDA.SECRET.LOCAL_VIEWS": ("top",), "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_local_top": {"TEST.VIEWS": ("top",), "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_local_bottom": {"TEST.VIEWS": ("bottom",), "UDA.MEAN_TEACHER.ENABLED": False},
    "secret_mt_no_refinement": {"UDA.REFINERS": (), "UDA.MEAN_TEACHER.ENABLED": True},
    "secret_mt_naive": {"UDA.JOIN_VIEWS": True, "UDA.MEAN_TEACHER.ENABLED": True},
}  # fmt: skip


@pytest.mark.parametrize("row", SECRET_ROWS)
@pytest.mark.parametrize("task", ["Duke2Market", "Market2Duke"])
def test_secret__row_of_the_paper_differs_in_these_keys_alone(task, row):
    main = load(ROOT / f"configs/{task}/secret.yml")
    cfg = load(ROOT / f"configs/{task}/ablations/{row}.yml")
    values, defaults = flat_config(cfg), flat_config(main)
    changed = {key: values[key] for key in values if values[key] != defaults[key]}
    for key, value in SECRET_ROWS[row].items():
        assert values[key] == str(value)
        changed.pop(key, None)
    if not cfg.UDA.MEAN_TEACHER.ENABLED:  # hard losses with full weights
        assert changed.pop("MODEL.LOSSES.NAME") == "('CrossEntropyLoss', 'TripletLoss')"
        assert [changed.pop(f"MODEL.LOSSES.{node}.SCALE") for node in ("CE", "TRI")] == ["1.0"] * 2
    assert set(changed) <= {"OUTPUT_DIR", "UDA.METHOD", "UDA.REFINERS"}


@pytest.mark.parametrize("task,eps", [("Duke2Market", 0.42), ("Market2Duke", 0.35)])
def test_msplr__presets_of_the_paper(task, eps):
    cfg = load(ROOT / f"configs/{task}/msplr.yml")
    assert eps == cfg.UDA.CLUSTER.EPS
    assert cfg.UDA.CLUSTER.DBSCAN.MIN_SAMPLES == 4
    assert cfg.UDA.CAMERA_NORMALIZATION and cfg.UDA.DISTANCE.NAME == "Cosine"
    assert cfg.MODEL.BACKBONE.WITH_IBN and cfg.SOLVER.MAX_EPOCH == 90
    assert cfg.MODEL.LOSSES.CENTER.SCALE == 0.005 and cfg.UDA.FREEZE_EPOCHS == 20


TASKS = {
    "Duke2Market": ("DukeMTMC", "Market1501"),
    "Market2Duke": ("Market1501", "DukeMTMC"),
    "Market2MSMT": ("Market1501", "MSMT17TrainVal"),
    "Duke2MSMT": ("DukeMTMC", "MSMT17TrainVal"),
    "MSMT2Market": ("MSMT17TrainVal", "Market1501"),
}


@pytest.mark.parametrize("method", ["baseline", "msplr", "nplp", "secret", "p2lr", "inclr"])
@pytest.mark.parametrize("task", TASKS)
def test_task__has_every_method_with_its_data_sets_and_recipe(task, method):
    cfg = load(ROOT / f"configs/{task}/{method}.yml")
    assert (*cfg.DATASETS.NAMES, *cfg.UDA.TARGET) == TASKS[task]
    assert cfg.DATASETS.TESTS == cfg.UDA.TARGET and not cfg.DATASETS.COMBINEALL
    assert Path(cfg.OUTPUT_DIR) == Path("logs", task, method)
    first = load(ROOT / f"configs/Duke2Market/{method}.yml")
    assert cfg.UDA.SOURCE.CONFIG == first.UDA.SOURCE.CONFIG
    clusters = {"Market1501": 500, "DukeMTMC": 700, "MSMT17TrainVal": 1500}
    if method in ("p2lr", "inclr"):
        assert clusters[TASKS[task][1]] == cfg.UDA.CLUSTER.KMEANS.NUM_CLUSTERS


@pytest.mark.parametrize(
    "task,levels",
    [("Duke2Market", 2), ("Market2Duke", 4), *((task, 2) for task in list(TASKS)[2:])],
)
def test_nplp__presets_of_the_paper(task, levels):
    cfg = load(ROOT / f"configs/{task}/nplp.yml")
    assert levels == cfg.MODEL.HEADS.PYRAMID.LEVELS and cfg.MODEL.HEADS.EMBEDDING_DIM == 1024
    assert cfg.MODEL.BACKBONE.LAST_STRIDE == 2 and not cfg.UDA.MEAN_TEACHER.ENABLED
    assert tuple(cfg.MODEL.LOSSES.NAME) == ("TripletLoss", "CenterContrastiveLoss")
    assert [cfg.MODEL.LOSSES[node].SCALE for node in ("TRI", "CENTER_CONTRASTIVE")] == [1.0, 1.0]
    assert (cfg.UDA.DISTANCE.NAME, cfg.UDA.CLUSTER.NAME) == ("Euclidean", "DBSCAN")
    assert cfg.UDA.CLUSTER.EPS is None and cfg.UDA.CLUSTER.EPS_UPDATE == "every"
    assert cfg.UDA.CLUSTER.EPS_RULE == "CrossCamera"
    assert cfg.UDA.CLUSTER.CROSSCAMERA.FRACTION == 0.0012
    node = cfg.UDA.NPLP
    assert (node.STARTUP_ROUNDS, node.SHARE, node.BETA) == (15, 0.1, 0.5)
    assert (cfg.SOLVER.OPT, cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS) == ("SGD", 0.0012, [])
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE) == (64, 4)
    recipe = source_config(cfg, "source")
    assert tuple(recipe.MODEL.LOSSES.NAME) == ("CrossEntropyLoss", "TripletLoss")
    assert recipe.MODEL.LOSSES.CE.EPSILON == 0.0 and recipe.MODEL.HEADS.DROPOUT == 0.5
    assert (recipe.SOLVER.BASE_LR, recipe.SOLVER.HEADS_LR_FACTOR) == (0.01, 10.0)
    assert not recipe.INPUT.REA.ENABLED and cfg.INPUT.REA.ENABLED


LEVELS, REFINERS_KEY = "MODEL.HEADS.PYRAMID.LEVELS", "UDA.REFINERS"
NPLP_ROWS = {
    "nplp_direct_transfer": {LEVELS: 1, "UDA.ROUNDS": 0},
    **{f"nplp_pap{n}": {LEVELS: n} for n in (1, 2, 3, 4)},
    **{f"nplp_pap{n}_startup": {LEVELS: n, REFINERS_KEY: ()} for n in (1, 2, 3, 4)},
    "nplp_concatenation": {LEVELS: 2, REFINERS_KEY: (), "MODEL.HEADS.EMBEDDING_DIM": 0},
    "nplp_literal": {"MODEL.LOSSES.CENTER_CONTRASTIVE.NORMALIZE": False,
                     "MODEL.LOSSES.CENTER_CONTRASTIVE.LOGIT_SCALE": 1.0},
    "nplp_jaccard": {"UDA.DISTANCE.NAME": "Jaccard", "UDA.CLUSTER.EPS_UPDATE": "first"},
}  # fmt: skip


@pytest.mark.parametrize("task,levels", [("Duke2Market", 2), ("Market2Duke", 4)])
def test_nplp__rows_of_the_paper_differ_in_these_keys_alone(task, levels):
    defaults = flat_config(load(ROOT / f"configs/{task}/nplp.yml"))
    files = sorted((ROOT / f"configs/{task}/ablations").glob("nplp_*.yml"))
    left_out = {f"nplp_pap{levels}"}  # nplp.yml itself
    left_out |= {"nplp_literal", "nplp_jaccard"} if task == "Market2Duke" else set()
    assert {path.stem for path in files} == set(NPLP_ROWS) - left_out
    for path in files:
        values = flat_config(load(path))
        changed = {key: values[key] for key in values if values[key] != defaults[key]}
        for key, value in NPLP_ROWS[path.stem].items():
            assert values[key] == str(value), path.stem
            changed.pop(key, None)
        assert set(changed) <= {"OUTPUT_DIR", "UDA.METHOD"}, path.stem


@pytest.mark.parametrize(
    "task,eps", [("Market2MSMT", 0.35), ("Duke2MSMT", 0.35), ("MSMT2Market", 0.42)]
)
def test_msplr__eps_that_is_not_published_is_that_of_the_nearest_task(task, eps):
    assert eps == load(ROOT / f"configs/{task}/msplr.yml").UDA.CLUSTER.EPS
