"""The folder of an export is whole or not there."""

import fcntl
import json
import os

import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.export import FORMATS, fastreid_format
from fastreid_uda.export.images import DRAWN, drawn_pedestrians, images_to_check
from fastreid_uda.export.sources import open_source
from fastreid_uda.export.writing import (
    WRITERS,
    Request,
    check_request,
    write_export,
)
from tests.export.runs import write_run


def test_formats__each_has_a_writer():
    assert {"fastreid", *WRITERS} == set(FORMATS)


@pytest.mark.parametrize(
    "prepare,out,sentence",
    [
        (lambda p: (p / "full").mkdir() or (p / "full/a").touch(), "full", "full, which is not em"),
        (lambda p: (p / "file").touch(), "file", "file, which is no folder; name a new or an emp"),
        (lambda p: (p / "file").touch(), "file/a/out", "file is not a folder; name a folder else"),
        (lambda p: (p / "gone").symlink_to(p / "nowhere"), "gone", "gone, which is no folder"),
        (lambda p: None, "", "--out is empty; name a folder"),
    ],
)
def test_check_request__refuses_a_folder_that_could_not_be_written(
    tmp_path, prepare, out, sentence
):
    prepare(tmp_path)
    with pytest.raises(UserError, match=sentence):
        check_request(Request(str(tmp_path / out) if out else "", ("fastreid",)))


def test_check_request__a_format_that_is_not_known(tmp_path):
    with pytest.raises(UserError, match="--format is 'caffe', but the known ones are: fastreid"):
        check_request(Request(str(tmp_path / "out"), ("caffe",)))


def test_write_export__into_an_empty_folder_with_any_name(run, tmp_path):
    write_run(run, tested=False)
    out = tmp_path / "más/出力 folder"
    out.mkdir(parents=True)
    request = Request(str(out), ("fastreid", "torchscript"))
    check_request(request)
    content = write_export(open_source(str(run)), request)
    names = {"model.pth", "config.yaml", "model.ts", "README.txt", "export.json"}
    assert {path.name for path in out.iterdir()} == names
    assert os.stat(out).st_mode & 0o777 == 0o755
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert json.loads((out / "export.json").read_text(encoding="utf-8")) == content


@pytest.mark.parametrize(
    "error,raised,sentence",
    [
        (OSError(28, "No space left on device"), UserError, "No space left on device.; free some"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
    ],
)
def test_write_export__leaves_nothing_after_an_error(
    run, export, tmp_path, monkeypatch, error, raised, sentence
):
    def fails(*_):
        (tmp_path / "seen").write_text(" ".join(os.listdir(tmp_path)))
        raise error

    write_run(run, tested=False)
    monkeypatch.setattr(fastreid_format, "_rebuilt_by_fastreid", fails)
    with pytest.raises(raised, match=sentence):
        export(run)
    assert ".tmp" in (tmp_path / "seen").read_text()  # it had begun to write
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "seen"]


def test_write_export__removes_what_killed_exports_have_left(run, export, tmp_path):
    write_run(run, tested=False)
    left, alive, of_others = (
        tmp_path / name for name in (".out.abcdefgh.tmp", ".out.ijklmnop.tmp", ".out.tmp")
    )
    for folder in (left, alive, of_others):
        folder.mkdir()
        (folder / "model.pth").touch()
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    export(run)
    assert not left.exists() and alive.exists() and of_others.exists()
    os.close(lock)


def test_readme__says_how_to_prepare_an_image_and_to_compare(run, export, tmp_path):
    options = ["MODEL.HEADS.NAME", "MultiViewHead", "TEST.VIEWS", "('global', 'top')",
               "INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[24, 16]"]  # fmt: skip
    write_run(run, *options)
    content = export(run, "fastreid", "torchscript", normalize=False)
    text = (tmp_path / "out/README.txt").read_text(encoding="utf-8")
    for part in (
        str(run), "after round 2", f"mAP {content['scores']['mAP']:.2f}", "bicubic to 32 x 32",
        "central 24 x 16", "shape (batch, 3, 24, 16)", "mean 123.675, 116.28, 103.53",
        "views global, top", "sqrt(0.2)", "by the cosine", "--eval-only", "torch.jit.load",
        "images of Market1501", "fast-reid has one",
    ):  # fmt: skip
        assert part in text, part
    assert content["feature_dim"] == 128 and content["input_size"] == [24, 16]


def test_facts__the_scores_are_of_the_tested_views_alone(run, export):
    write_run(run, "MODEL.HEADS.NAME", "MultiViewHead")
    assert export(run, "torchscript", views=("global", "top"))["scores"] == {}


def test_images_to_check__of_the_run_or_drawn(run, monkeypatch, tmp_path):
    cfg, _, _ = write_run(run, tested=False)
    images, what = images_to_check(cfg, 8)
    assert images.shape == (8, 3, 32, 32) and what == "images of Market1501"
    assert len({tensor.sum().item() for tensor in images}) == 8
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "none"))
    drawn, what = images_to_check(cfg, 8)
    assert what == DRAWN and drawn.shape == images.shape
    assert drawn.min() >= 0 and drawn.max() <= 255 and drawn.std() > 20
    assert not (tmp_path / "none").exists()


def test_images_to_check__drawn_if_those_of_the_run_are_damaged(run, tmp_path, monkeypatch):
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        path = tmp_path / "data/Market-1501-v15.09.15" / folder
        path.mkdir(parents=True)
        (path / "0001_c1s1_000000_00.jpg").write_text("no image")
    cfg, _, _ = write_run(run, tested=False)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    assert images_to_check(cfg, 8)[1] == DRAWN


def test_drawn_pedestrians__are_the_same_every_time():
    first, second = drawn_pedestrians(3), drawn_pedestrians(3)
    assert [a.tobytes() for a in first] == [b.tobytes() for b in second]
    assert len({image.tobytes() for image in first}) == 3


def test_features__are_those_of_evaluation(run, export):
    """Dropout and the statistics of a batch would be in the files."""
    write_run(run, "MODEL.HEADS.DROPOUT", "0.5", tested=False)
    content = export(run, "fastreid", "torchscript")
    assert all(entry["max_relative_difference"] < 1e-5 for entry in content["files"])
