"""An index on the disk: whole or not there, and refused when it does not fit any more."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.evaluation import feature_index as module
from fastreid_uda.evaluation.feature_index import (
    FeatureIndex,
    check_weights,
    file_digest,
    file_stamp,
    read_index,
    write_index,
)


@pytest.fixture
def index(tmp_path):
    weights = tmp_path / "model.pth"
    weights.write_bytes(b"weights")
    return FeatureIndex(
        features=np.arange(6, dtype=np.float32).reshape(3, 2),
        paths=("a,1/x.jpg", 'b"/ü 入.jpg', "\udce9.png"),
        cameras=("a,1", "-1", "c"),
        identities=(None, "7", None),
        images=str(tmp_path / "crops"),
        weights=str(weights),
        digest=file_digest(str(weights)),
        teacher=1,
        stamps=((5, 10**18 + 1), (0, 2), (7, 0)),
    )


def write(folder, index, **arrays):
    write_index(str(folder), index, "A: 1\n", arrays)


def test_read_index__gives_back_what_was_written(tmp_path, index):
    write(tmp_path / "new/index", index, camera_ids=np.arange(3))
    back = read_index(str(tmp_path / "new/index"))
    assert np.array_equal(back.features, index.features)
    for name in (
        "paths",
        "cameras",
        "identities",
        "images",
        "weights",
        "digest",
        "teacher",
        "stamps",
    ):
        assert getattr(back, name) == getattr(index, name)
    check_weights("index", back)
    with np.load(tmp_path / "new/index/features.npz") as arrays:
        assert sorted(arrays.files) == ["camera_ids", "global"]


def test_write_index__replaces_an_older_one_and_leaves_nothing_else(tmp_path, index):
    write(tmp_path / "index", index)
    write(tmp_path / "index", index)
    assert sorted(os.listdir(tmp_path / "index")) == [
        "features.npz", "index.csv", "index.json", "network.yaml"
    ]  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["index", "model.pth"]


def test_write_index__that_fails_leaves_the_older_one(tmp_path, index, monkeypatch):
    write(tmp_path / "index", index)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_table", full)
    with pytest.raises(UserError, match="cannot be written .No space left"):
        write(tmp_path / "index", index)
    read_index(str(tmp_path / "index"))
    assert sorted(os.listdir(tmp_path)) == ["index", "model.pth"]


def test_write_index__with_a_copy_of_the_weights_may_move(tmp_path, index):
    def copy(path):
        with open(path, "wb") as file:
            file.write(b"one network")

    write_index(str(tmp_path / "index"), index, "", {}, copy)
    os.rename(tmp_path / "index", tmp_path / "moved")
    os.unlink(index.weights)
    back = read_index(str(tmp_path / "moved"))
    check_weights("moved", back)
    assert back.teacher == 0 and back.weights == str(tmp_path / "moved/weights.pth")


def test_check_weights__changed_or_gone(tmp_path, index):
    with open(index.weights, "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"model.pth has changed since the index my_index"):
        check_weights("my_index", index)
    os.unlink(index.weights)
    with pytest.raises(UserError, match=r"model.pth, which is not there any more"):
        check_weights("my_index", index)


def test_read_index__damaged(tmp_path, index):
    with pytest.raises(UserError, match="is no index"):
        read_index(str(tmp_path))
    folder = tmp_path / "index"

    def refused(reason):
        with pytest.raises(UserError, match=reason):
            read_index(str(folder))
        shutil.rmtree(folder)
        write(folder, index)

    write(folder, index)
    (folder / "index.json").write_text("{")
    refused("damaged index")
    facts = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(facts | {"format": 2}))
    refused("another version")
    (folder / "index.csv").write_text("row,path,camera,identity\n0,a.jpg,,\n")
    refused("3, 2.*1 rows")
    (folder / "features.npz").unlink()
    refused("no such file")


def test_row_of__by_path_and_by_link(tmp_path, index):
    folder = tmp_path / "crops/a,1"
    folder.mkdir(parents=True)
    (folder / "x.jpg").write_text("")
    (tmp_path / "link.jpg").symlink_to(folder / "x.jpg")
    assert index.row_of(str(folder / "x.jpg")) == 0
    assert index.row_of(str(tmp_path / "link.jpg")) == 0
    assert index.row_of(str(tmp_path / "y.jpg")) is None
    assert os.path.realpath(index.path_of(0)) == str(folder / "x.jpg")


def test_gone_and_changed__by_size_and_time_and_of_copies_by_size(tmp_path, index):
    for name in index.paths[:2]:
        (tmp_path / "crops" / name).parent.mkdir(parents=True)
        (tmp_path / "crops" / name).write_bytes(b"image")
    stamps = tuple(file_stamp(index.path_of(row)) or (3, 3) for row in range(3))
    index = replace(index, stamps=stamps)
    assert index.gone_and_changed(range(3)) == ([2], [])
    os.utime(index.path_of(0), ns=(1, 1))
    assert index.gone_and_changed([0, 1]) == ([], [0])
    assert replace(index, stamps=()).gone_and_changed([0, 1]) == ([], [])
    os.rename(tmp_path / "crops", tmp_path / "moved")
    assert index.gone_and_changed([0, 1]) == ([0, 1], [])
    moved = index.moved_to(str(tmp_path / "moved"))
    assert moved.gone_and_changed([0, 1]) == ([], [])
    assert moved.row_of(str(tmp_path / "moved/a,1/x.jpg")) == 0
    with open(moved.path_of(1), "ab") as file:
        file.write(b"x")
    assert moved.gone_and_changed([0, 1]) == ([], [1])


def test_read_index__of_a_table_without_sizes_and_times(tmp_path, index):
    write(tmp_path / "index", index)
    table = "row,path,camera,identity\n" + "".join(f"{n},{n}.jpg,,\n" for n in range(3))
    (tmp_path / "index/index.csv").write_text(table)
    assert read_index(str(tmp_path / "index")).stamps == ((0, 0),) * 3
