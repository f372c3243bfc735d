"""Checkpoints that are damaged, cut off, or no checkpoints of this run."""

import random

import pytest
import torch

from fastreid_uda.engine.checkpointing import (
    first_readable,
    load_checkpoint,
    save_checkpoint,
    try_checkpoint,
)
from fastreid_uda.errors import UserError
from tests.engine.training import differing, make_trainer
from tests.faults.damage import DAMAGES, damage, flip


def test_flipped_bit__is_noticed_wherever_it_matters(tmp_path):
    path = tmp_path / "model.pth"
    model = {f"layer{n}": torch.randn(40, 40) for n in range(4)} | {"none": torch.zeros(0, 3)}
    state = {"model": model, "epoch": 3, "records": [{"round": 0, "eps": 0.5}]}
    save_checkpoint(str(path), state)
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")  # few bytes, and the ones that are hard to check
    places = random.Random(0).choices(range(len(content)), k=300)
    places = [*places, *range(directory, len(content), 3)]
    noticed = 0
    for place in places:
        path.write_bytes(content)
        flip(path, place, random.Random(place).randrange(8))
        if try_checkpoint(str(path))[1]:
            noticed += 1
            continue
        again = load_checkpoint(str(path))
        assert differing(again.pop("model"), model) == [], place
        assert again == {key: state[key] for key in again}, place
    assert noticed > 150


def test_folder_attribute__would_empty_a_tensor_and_is_noticed(tmp_path):
    path = tmp_path / "model.pth"
    save_checkpoint(str(path), {"a": torch.ones(100)})
    entry = path.read_bytes().rindex(b"PK\x01\x02", 0, path.read_bytes().rindex(b"data/0"))
    flip(path, entry + 38, 4)
    assert "data/0 does not match" in try_checkpoint(str(path))[1]


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_last_checkpoint__the_one_before_is_taken_and_named(stopped_run, out, caplog, how):
    damage(out / "model_last.pth", how)
    before = (out / "model_previous.pth").read_bytes()
    trainer = make_trainer(stopped_run)
    assert trainer.resume() and trainer.start_epoch == 2
    (warning,) = [r.message for r in caplog.records if "is taken instead" in r.message]
    assert "model_last.pth cannot be read, because" in warning
    assert warning.endswith("model_previous.pth of the end of epoch 1 is taken instead.")
    # The damaged file must not push the good one out when the next checkpoint is written.
    assert (out / "model_last.pth").read_bytes() == before
    assert not (out / "model_previous.pth").exists()


def test_kill_between_two_names__the_one_before_is_taken(stopped_run, out, caplog):
    (out / "model_last.pth").unlink()
    trainer = make_trainer(stopped_run)
    assert trainer.resume() and trainer.start_epoch == 2
    assert (out / "model_last.pth").exists()


@pytest.mark.parametrize("how", DAMAGES)
def test_both_damaged__one_sentence_names_both(stopped_run, out, how):
    damage(out / "model_last.pth", how)
    damage(out / "model_previous.pth", "half")
    with pytest.raises(UserError, match=DAMAGES[how]) as raised:
        make_trainer(stopped_run).resume()
    text = str(raised.value)
    assert "model_last.pth" in text and "model_previous.pth" in text and "\n" not in text
    assert text.endswith("remove them and start without --resume.")


@pytest.mark.parametrize(
    "change,sentence",
    [
        (lambda state: state.pop("iter"), r"it lacks iter\).*MODEL.WEIGHTS to start"),
        (lambda state: state.pop("format"), "format None"),
        (lambda state: state.update(format=99), "format 99"),
        (lambda state: state.update(images="x"), "other training images; restore"),
        (lambda state: [state.pop(key) for key in list(state) if key != "model"], "lacks epoch, "),
        (
            lambda state: state["labels"].update(left=state["labels"]["global"]),
            "views global, left",
        ),
        (lambda state: state["model"].pop("heads.weight"), "another network or optimiser"),
        (lambda state: state["optimizer"]["param_groups"].pop(), "another network or optimiser"),
    ],
)
def test_whole_file_of_something_else__is_refused_and_kept(stopped_run, out, change, sentence):
    state = load_checkpoint(str(out / "model_last.pth"))
    change(state)
    torch.save(state, out / "model_last.pth")
    with pytest.raises(UserError, match=sentence) as raised:
        make_trainer(stopped_run).resume()
    assert "\n" not in str(raised.value)
    assert (out / "model_previous.pth").exists()


def test_plain_state_dict_as_checkpoint__is_refused(stopped_run, out):
    torch.save(load_checkpoint(str(out / "model_last.pth"))["model"], out / "model_last.pth")
    with pytest.raises(UserError, match="not of a run of this version of fastreid_uda .it lacks m"):
        make_trainer(stopped_run).resume()


def test_new_checkpoint__keeps_the_one_before(tmp_path):
    last, previous = str(tmp_path / "last.pth"), str(tmp_path / "previous.pth")
    for epoch in range(3):
        save_checkpoint(last, {"epoch": epoch}, previous)
    assert [load_checkpoint(path)["epoch"] for path in (last, previous)] == [2, 1]
    assert first_readable([previous, last]) == previous
    assert first_readable([str(tmp_path / "none.pth")]) is None
