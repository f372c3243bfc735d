"""What else is in OUTPUT_DIR when a run goes on: summary, labels, and folders instead of files."""

import shutil

import pytest

from fastreid_uda.engine.label_folder import check_label_folder
from fastreid_uda.engine.summary import RunSummary
from fastreid_uda.errors import UserError
from tests.engine.training import make_trainer


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1]", b'{"method": ', b"", b"[" * 100_000])
def test_summary__damaged_is_made_anew_with_a_warning(tmp_path, heard, content):
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    summary = RunSummary(str(path), {"method": "x"})
    summary.load()
    assert summary.content == {"method": "x"}
    (warning,) = [record.getMessage() for record in heard.records]
    assert warning.startswith(f"{path} cannot be read (") and "anew from the checkpoint" in warning
    summary.update(seed=1)
    again = RunSummary(str(path), {})
    again.load()
    assert again.content == {"method": "x", "seed": 1}


@pytest.mark.parametrize("name", ["model_last.pth", "model_previous.pth"])
def test_checkpoint__that_is_a_folder(stopped_run, out, name):
    (out / name).unlink()
    (out / name).mkdir()
    with pytest.raises(UserError, match=f"{name} is a folder; move it to another place.$"):
        make_trainer(stopped_run).resume()


def warnings_of(log):
    return [r.getMessage() for r in log.records if "label files" in r.getMessage()]


def test_labels__all_there(stopped_run, out, heard):
    assert make_trainer(stopped_run).resume()
    assert warnings_of(heard) == []


def test_labels__gone_are_counted_and_the_image_list_is_written(stopped_run, out, heard):
    names = (out / "labels/images.txt").read_bytes()
    (out / "labels/round_000.npz").unlink()
    assert make_trainer(stopped_run).resume()
    (warning,) = warnings_of(heard)
    assert warning.startswith("1 of 2 label files of the rounds so far are missing, from ")
    shutil.rmtree(out / "labels")
    assert make_trainer(stopped_run).resume()
    assert warnings_of(heard)[1].startswith("2 of 2 label files")
    assert (out / "labels/images.txt").read_bytes() == names
    assert [path.name for path in (out / "labels").iterdir()] == ["images.txt"]


def test_labels__of_rounds_without_a_file_are_not_missed(tmp_path, heard):
    used_again = {"round": 1, "clusters": 3, "collapsed": "why"}
    check_label_folder(str(tmp_path), [{"round": 0, "mAP": 1.0}, used_again], ["a.jpg"])
    assert warnings_of(heard) == [] and not (tmp_path / "labels").exists()
