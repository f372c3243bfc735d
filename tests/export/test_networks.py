"""The network that is chosen is the one that is loaded."""

import shutil

import pytest
import torch

from fastreid_uda.engine.checkpointing import save_checkpoint
from fastreid_uda.errors import UserError
from fastreid_uda.export.networks import load_network
from fastreid_uda.export.sources import open_source
from tests.export.runs import write_run

TWO = ["UDA.MEAN_TEACHER.ENABLED", "True", "UDA.MEAN_TEACHER.STUDENTS", "2"]


def load(run, *choice, **options):
    return load_network(open_source(str(run), **options), *choice)


def is_loaded(found, expected):
    own = found.module.state_dict()
    return own.keys() <= expected.state_dict().keys() and all(
        torch.equal(own[name], tensor)
        for name, tensor in expected.state_dict().items()
        if not name.startswith("criteria.")
    )


def test_load_network__the_chosen_one_of_several(run):
    _, network, _ = write_run(run, *TWO)
    (teacher, second), (student, other) = network.teachers, network.students
    assert is_loaded(load(run), teacher) and not is_loaded(load(run), second)
    assert is_loaded(load(run, None, 2), second)
    assert is_loaded(load(run, "student", 1), student)
    assert is_loaded(load(run, "student", 2), other)
    assert load(run, "teacher", 2).name == "teacher 2 of 2"


def test_load_network__scores_are_those_of_the_chosen_teacher(run):
    _, _, checkpoint = write_run(run, *TWO)
    record = checkpoint["records"][-1]
    assert load(run).scores["mAP"] == record["mAP"]
    assert load(run, None, 2).scores["mAP"] == record["teacher_2/mAP"] != record["mAP"]
    assert load(run, "student").scores == {}


def test_load_network__scores_of_an_earlier_round_are_not_those_of_the_file(run):
    _, _, checkpoint = write_run(run)
    save_checkpoint(str(run / "model_last.pth"), checkpoint | {"epoch": checkpoint["epoch"] + 1})
    found = load(run, choice="last")
    assert found.scores == {} and load(run).scores["mAP"] > 0


def test_load_network__scores_of_another_test_are_not_those_of_the_network(run):
    write_run(run)
    assert load(run).scores["mAP"] > 0
    assert load(run, overrides=["INPUT.SIZE_TEST", "[48, 32]"]).scores == {}
    assert load(run, overrides=["TEST.IMS_PER_BATCH", "3"]).scores["mAP"] > 0


def test_load_network__of_the_best_checkpoint_the_better_teacher(run):
    _, network, checkpoint = write_run(run, *TWO, tested=False)
    for better in (1, 2):
        record = {"mAP": 50.0, "teacher_2/mAP": 40.0 + 20 * (better == 2)}
        save_checkpoint(str(run / "model_best.pth"), checkpoint | {"records": [{}, record]})
        found = load(run, choice="best")
        assert found.name == f"teacher {better} of 2"
        assert is_loaded(found, network.teachers[better - 1])


def test_load_network__one_network_and_fastreids_own_file(run):
    _, network, _ = write_run(run)
    assert is_loaded(load(run), network) and load(run).name == "the network"
    overrides = ["MODEL.META_ARCHITECTURE", "Baseline", "MODEL.HEADS.NAME", "EmbeddingHead"]
    assert is_loaded(load(run, overrides=overrides), network)


@pytest.mark.parametrize(
    "options,choice,sentence",
    [
        (TWO, ("teacher", 3), "--number is 3, but .* has 2 teacher.s.; choose 1 to 2"),
        (TWO, (None, 0), "--number is 0, but"),
        (TWO, ("pupil", None), "--network is 'pupil', but the known ones are: teacher, student"),
        ([], ("teacher", None), "--network is teacher, but .* a network without a teacher"),
        ([], ("student", None), "--network is student, but .* without a teacher; leave it out"),
        ([], (None, 2), "--number is 2, but .* has 1 network.s.; leave it out"),
    ],
)
def test_load_network__refuses_one_that_is_not_there(run, options, choice, sentence):
    write_run(run, *options, tested=False)
    with pytest.raises(UserError, match=sentence):
        load(run, *choice)


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.DEPTH", "18x",
          "MODEL.BACKBONE.FEAT_DIM", "512"], "fits 0 of 100 backbone tensors"),
        (["MODEL.HEADS.NAME", "MultiViewHead"], r"layers of the view\(s\) top, bottom that"),
        (["MODEL.HEADS.WITH_BNNECK", "False"], "has 5 tensor.s. that the network of the config has "
         "not, as heads.bottleneck.0.weight; set MODEL.BACKBONE and MODEL.HEADS"),
        (["MODEL.HEADS.NAME", "EmbeddingHead"], "set it to PseudoLabelHead"),
        (["MODEL.META_ARCHITECTURE", "MGN"], "MODEL.META_ARCHITECTURE|cannot be built"),
    ],
)  # fmt: skip
def test_load_network__refuses_a_config_of_another_network(run, caplog, overrides, sentence):
    write_run(run, tested=False)
    with pytest.raises(UserError, match=sentence):
        load(run, overrides=overrides)
    assert "Skip loading" not in caplog.text


def test_load_network__of_data_parallel_training(run):
    _, network, checkpoint = write_run(run, tested=False)
    state = {f"module.{name}": tensor for name, tensor in checkpoint["model"].items()}
    shutil.copy(run / "model_final.pth", run / "model_best.pth")
    save_checkpoint(str(run / "model_final.pth"), {"model": state})
    assert is_loaded(load(run), network)


@pytest.mark.parametrize("content", [{"epoch": 3}, {"model": {}}, {"model": {"a": 1}}])
def test_load_network__refuses_a_file_without_one(run, content):
    write_run(run, tested=False)
    torch.save(content, run / "model_final.pth")
    with pytest.raises(UserError, match="model_final.pth holds no network"):
        load(run)
