"""What docs/migration.md says of checkpoints of other projects is what happens."""

import re

import pytest
import torch

from fastreid_uda.errors import UserError
from tests.helpers import ROOT

pytest.importorskip("fastreid")

from fastreid_uda.config_loading import load_config
from fastreid_uda.engine.trainer import UDATrainer
from fastreid_uda.engine.weights import load_weights

PAGE = (ROOT / "docs/migration.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def network():
    cfg = load_config(str(ROOT / "configs/Synthetic/baseline.yml"))
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.DEVICE = False, "cpu"
    return UDATrainer.build_model(cfg)


def mmt_names(prefix=""):
    """The beginning and the end of the tensors of MMT, SpCL and P2LR."""
    shapes = {"base.0.weight": (64, 3, 7, 7), "base.1.weight": (64,), "base.1.running_mean": (64,),
              "base.4.0.conv1.weight": (64, 64, 1, 1), "feat_bn.weight": (2048,),
              "classifier.weight": (500, 2048)}  # fmt: skip
    return {prefix + name: torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "content,sentence",
    [
        ({"state_dict": mmt_names("module."), "epoch": 3, "best_mAP": 0.7}, "holds no network"),
        (mmt_names("module."), "of another architecture"),
        ({"model": mmt_names()}, "of another architecture"),
    ],
)
def test_checkpoint_of_the_mmt_family__is_refused_in_the_words_of_the_page(
    network, tmp_path, content, sentence
):
    path = tmp_path / "model_best.pth.tar"
    torch.save(content, path)
    with pytest.raises(UserError, match=sentence) as error:
        load_weights(network, [str(path)], ("global",))
    assert str(path) in str(error.value)
    assert sentence in PAGE


def test_page__has_a_table_of_every_project_with_two_columns():
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for project in ("OpenUnReID", "MMT", "SpCL", "SECRET", "P2LR"):
        rows = re.findall(r"^\| .+ \|$", sections[project], re.MULTILINE)
        assert len(rows) > 8, project
        assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows), project
