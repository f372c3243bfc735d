"""Networks of other runs and of finished stages: damaged, or something else."""

import shutil

import pytest
import torch

from fastreid_uda.engine import output_folder
from fastreid_uda.engine.checkpointing import load_checkpoint, save_checkpoint
from fastreid_uda.engine.run_features import extract_run_features
from fastreid_uda.engine.weights import load_weights
from fastreid_uda.errors import UserError
from tests.engine.training import differing, make_trainer, state_of
from tests.faults.damage import damage, flip


@pytest.mark.parametrize(
    "how,sentence",
    [
        ("flipped", "its part .*data/.* does not match its checksum; copy or download it again"),
        ("half", "truncated or no checkpoint of weights"),
        ("text", "truncated or no checkpoint of weights"),
        ("code", "holds the Python object .*system"),
        ("list", "holds no network; give a file with a state dict"),
    ],
)
def test_weights__damaged_are_refused_and_nothing_is_loaded(stopped_run, out, how, sentence):
    path = out / "model_last.pth"
    damage(path, how)
    trainer = make_trainer(stopped_run)
    before = state_of(trainer)
    with pytest.raises(UserError, match=sentence) as raised:
        load_weights(trainer.model, [str(path)])
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert differing(before, state_of(trainer)) == []


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"state_dict": {}, "epoch": 3}, {"a": 1}])
def test_weights__without_a_network_are_refused(stopped_run, tmp_path, content):
    path = str(tmp_path / "other.pth")
    torch.save(content, path)
    with pytest.raises(UserError, match=r"other.pth holds no network; give a file with a state"):
        load_weights(make_trainer(stopped_run).model, [path])


def test_weights__of_the_old_format_of_torch_have_no_checksums_and_load(stopped_run, out):
    path = str(out / "old.pth")
    state = load_checkpoint(str(out / "model_last.pth"))["model"]
    torch.save(state, path, _use_new_zipfile_serialization=False)
    trainer = make_trainer(stopped_run)
    load_weights(trainer.model, [path])
    backbone = {k: v for k, v in state.items() if k.startswith("backbone.")}
    assert differing(trainer.model.state_dict(), backbone) == []


def test_features_of_a_run__of_the_checkpoint_before_if_the_last_is_damaged(
    stopped_run, out, caplog
):
    shutil.copy(out / "model_previous.pth", out / "as_it_should_be.pth")
    flip(out / "model_last.pth")
    damaged = (out / "model_last.pth").read_bytes()
    features, _ = extract_run_features(str(out))
    assert "model_previous.pth of the end of epoch 1 is taken instead" in caplog.text
    assert (out / "model_last.pth").read_bytes() == damaged  # the run may be under way
    shutil.copy(out / "as_it_should_be.pth", out / "model_last.pth")
    again, _ = extract_run_features(str(out))
    assert (features.views["global"] == again.views["global"]).all()


# -- the network of a finished stage ---------------------------------------------------------------


@pytest.fixture
def source(stopped_run, out):
    trainer = make_trainer(stopped_run)
    final = out / "model_final.pth"
    save_checkpoint(str(final), load_checkpoint(str(out / "model_last.pth")))
    return trainer, final


def is_trained(trainer, resume):
    return output_folder.is_trained(trainer.cfg, trainer.images.digest, "source", resume)


def test_finished_stage__is_used_again(source):
    trainer, final = source
    assert is_trained(trainer, False) and is_trained(trainer, True)
    final.unlink()
    assert not is_trained(trainer, True)


def test_finished_stage__damaged_goes_on_with_resume_or_says_what_to_remove(source, caplog):
    trainer, final = source
    flip(final)
    with pytest.raises(UserError, match=r"final.pth cannot be read.*remove it to train the stage"):
        is_trained(trainer, False)
    assert not is_trained(trainer, True)
    assert "stage 'source' goes on from its last checkpoint, or anew" in caplog.text


def test_finished_stage__of_something_else_is_refused(source):
    trainer, final = source
    state = load_checkpoint(str(final))
    torch.save(state["model"], final)
    with pytest.raises(UserError, match="final.pth was not written by a run of this .*; remove it"):
        is_trained(trainer, True)
    torch.save(state | {"images": "x"}, final)
    with pytest.raises(UserError, match="was trained on other images than those of Market1501"):
        is_trained(trainer, True)
