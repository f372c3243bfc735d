"""Which checkpoint and which config are taken, and what is said if they are not there."""

import shutil

import pytest
import torch

from fastreid_uda.errors import UserError
from fastreid_uda.export.sources import open_source
from tests.export.runs import RESNET, write_run
from tests.faults.damage import damage


@pytest.fixture
def whole(run):
    write_run(run, tested=False)
    return run


def test_open_source__takes_the_final_checkpoint_or_the_one_that_is_named(whole):
    for name in ("best", "last"):
        shutil.copy(whole / "model_final.pth", whole / f"model_{name}.pth")
    assert open_source(str(whole)).path == str(whole / "model_final.pth")
    assert open_source(str(whole), choice="best").path == str(whole / "model_best.pth")
    (whole / "model_final.pth").unlink()
    assert open_source(str(whole)).path == str(whole / "model_last.pth")


def test_open_source__the_one_before_if_the_last_is_damaged(whole, caplog):
    shutil.copy(whole / "model_final.pth", whole / "model_previous.pth")
    (whole / "model_final.pth").rename(whole / "model_last.pth")
    damage(whole / "model_last.pth", "half")
    assert open_source(str(whole), choice="last").path == str(whole / "model_previous.pth")
    assert "model_previous.pth is taken instead" in caplog.text


def test_open_source__finds_the_config_of_a_file_in_a_run_and_of_a_stage(whole):
    stage = whole / "source_2"
    stage.mkdir()
    shutil.copy(whole / "model_final.pth", stage)
    for given in (whole / "model_final.pth", stage / "model_final.pth", stage):
        assert str(whole) == open_source(str(given)).cfg.OUTPUT_DIR
    assert open_source(str(stage), overrides=["TEST.ETA", "0.5"]).cfg.TEST.ETA == 0.5


def test_open_source__the_recipe_of_the_run_may_have_moved(whole):
    text = (whole / "config.yaml").read_text()
    assert "CONFIG: Source/synthetic.yml" in text or "synthetic.yml" in text
    path = whole / "config.yaml"
    path.write_text(text.replace("synthetic.yml", "gone.yml"))
    assert open_source(str(whole)).cfg.UDA.SOURCE.CONFIG == ""


@pytest.mark.parametrize(
    "prepare,given,options,sentence",
    [
        (None, "none", {}, "none is neither the OUTPUT_DIR of a run nor a checkpoint; give one"),
        (None, "", {"choice": "best"}, "holds no model_best.pth; choose another checkpoint: "
         "--checkpoint final."),
        (None, "", {"choice": "worst"}, "--checkpoint is 'worst', but the known ones are: final"),
        (None, "model_final.pth", {"choice": "best"}, "chooses among the files of a run, but"),
        ("no config", "model_final.pth", {}, "whose network is not recognised"),
        ("no config", "", {}, "holds no config.yaml; give the OUTPUT_DIR of a run"),
        ("no checkpoint", "", {}, r"holds no checkpoint \(model_final.pth, model_best.pth"),
        ("half", "", {}, "model_final.pth cannot be read, because "),
        ("code", "", {}, "it holds the Python object .*system.*; save only its weights, as"),
        (None, "", {"overrides": ["TEST.ETAA", "1"]}, "TEST.ETAA"),
        (None, "", {"config_file": "none.yml"}, "none.yml"),
    ],
)  # fmt: skip
def test_open_source__says_what_is_wrong(whole, prepare, given, options, sentence):
    if prepare == "no config":
        (whole / "config.yaml").unlink()
    elif prepare == "no checkpoint":
        (whole / "model_final.pth").unlink()
    elif prepare:
        damage(whole / "model_final.pth", prepare)
    with pytest.raises(UserError, match=sentence) as raised:
        open_source(str(whole / given), **options)
    assert "\n" not in str(raised.value)


def test_open_source__without_a_config_the_network_is_recognised(run, export, tmp_path):
    """As of a released checkpoint, here in the names of fast-reid before 1.0."""
    _, network, _ = write_run(run, *RESNET, "MODEL.BACKBONE.WITH_IBN", "True", tested=False)
    (run / "config.yaml").unlink()
    old = {"heads.weight": "heads.classifier.weight"} | {
        name: name.replace("heads.bottleneck.0.", "heads.bnneck.") for name in network.state_dict()
        if name.startswith("heads.bottleneck.0.")
    }  # fmt: skip
    state = {old.get(n, n): t for n, t in network.state_dict().items() if "criteria" not in n}
    assert "heads.bnneck.weight" in state and "heads.classifier.weight" in state
    torch.save({"model": state}, run / "zoo.pth")
    source = open_source(str(run / "zoo.pth"), overrides=["INPUT.SIZE_TEST", "[32, 32]"])
    assert source.cfg.MODEL.BACKBONE.WITH_IBN and source.cfg.MODEL.BACKBONE.DEPTH == "18x"
    assert "build_resnet_backbone 18x, WITH_IBN" in source.remark
    content = export(run / "zoo.pth", overrides=["INPUT.SIZE_TEST", "[32, 32]"])
    assert content["notes"] == [source.remark]
    written = torch.load(tmp_path / "out/model.pth", weights_only=True)["model"]
    assert all(torch.equal(written[name], tensor) for name, tensor in network.state_dict().items())


def test_open_source__a_config_of_the_user_may_ask_for_it_too(whole):
    (whole / "config.yaml").rename(whole / "mine.yml")
    overrides = ["MODEL.FROM_WEIGHTS", "True", "MODEL.HEADS.WITH_BNNECK", "False"]
    source = open_source(str(whole), str(whole / "mine.yml"), overrides=overrides)
    assert "build_small_backbone" in source.remark
    assert source.cfg.MODEL.HEADS.WITH_BNNECK  # as the file shows


def test_open_source__a_plain_state_dict_is_a_checkpoint(whole):
    state = torch.load(whole / "model_final.pth", weights_only=True)["model"]
    torch.save(state, whole / "model_final.pth")
    assert set(open_source(str(whole)).checkpoint) == set(state)
