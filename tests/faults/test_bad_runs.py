"""Mistakes that only the machine, the network or the data show: refused before a run writes."""

import random

import numpy as np
import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.engine import checks
from fastreid_uda.engine.checks import check_run
from fastreid_uda.errors import UserError
from tests.helpers import ROOT, TINY

BASELINE = str(ROOT / "configs/Synthetic/baseline.yml")


def check(market, *overrides):
    """Check a tiny run; the files that are there afterwards."""
    here = [*TINY, "OUTPUT_DIR", str(market / "out"), "MODEL.DEVICE", "cpu", *overrides]
    check_run(load_config(BASELINE, here), eval_only=False)


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["MODEL.BACKBONE.FEAT_DIM", "2048"], "0.5x gives 1024 channels; set it to 1024"),
        (["UDA.SOURCE.OPTS", "['MODEL.BACKBONE.FEAT_DIM', 7]"], "FEAT_DIM is 7, .* set it to 1024"),
        (["MODEL.BACKBONE.DEPTH", "9x"], "cannot be built from MODEL.BACKBONE .*DEPTH 9x"),
        (["MODEL.HEADS.POOL_LAYER", "x"], "and MODEL.HEADS .*Expected pool types"),
        (["MODEL.HEADS.NAME", "MultiViewHead", "MODEL.HEADS.PARTS.NAMES", "('clusters',)"],
         "MODEL.HEADS.PARTS.NAMES has 'clusters'"),
        (["DATASETS.NAMES", "()"], "DATASETS.NAMES is empty, but the stage source"),
        (["DATASETS.NAMES", "('DukeMTMC',)"], "Data set DukeMTMC cannot be read"),
        (["MODEL.WEIGHTS", "/tmp"], "MODEL.WEIGHTS is '/tmp', but there is no such file"),
        (["SOLVER.OPT", "LBFGS"], "SOLVER.OPT is 'LBFGS', but the known names"),
    ],
)  # fmt: skip
def test_run__is_refused_before_it_writes(market, overrides, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        check(market, *overrides)
    assert len(str(caught.value).splitlines()) == 1
    assert not (market / "out").exists()


def test_device__has_to_be_there(market, monkeypatch):
    monkeypatch.setattr(checks.torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=r"'cuda:7', but this machine has 2 GPU\(s\)"):
        check(market, "MODEL.DEVICE", "cuda:7")


def test_check__leaves_the_random_numbers_alone(market):
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    check(market)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


def test_folder__with_one_image_per_camera_passes(market):
    train = str(market / "data/Market-1501-v15.09.15/bounding_box_train")
    check(
        market, "UDA.TARGET", "('PersonFolder',)", "DATASETS.FOLDER.TRAIN", train,
        "DATASETS.FOLDER.PATTERN", "(?P<camera>.*)jpg", "UDA.CAMERA_NORMALIZATION", "True",
    )  # fmt: skip
