"""Feature files of strangers: every mistake is one sentence, nothing is unpickled or written."""

import os
import zipfile

import numpy as np
import pytest

from fastreid_uda import npz
from fastreid_uda.errors import UserError
from fastreid_uda.evaluation.feature_files import read_labeled_features, read_pair
from fastreid_uda.labeling.label_files import read_feature_set, read_uncertainty
from fastreid_uda.labeling.types import RESERVED
from fastreid_uda.npz import read_npz

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
IDS = np.arange(6)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(function, path, *words):
    with pytest.raises(UserError) as caught:
        function(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and os.path.basename(path) in text
    assert all(word in text for word in words), text


def test_pickled_objects__are_never_unpickled(tmp_path, save):
    marks = [str(tmp_path / name) for name in ("one", "two")]
    path = save(**{"global": X, "camera_ids": np.array([Payload(marks[0])] * 6, dtype=object)})
    refused(read_feature_set, path, "'camera_ids'", "holds Python objects")
    path = save(
        features=np.array([Payload(marks[1])], dtype=object), identities=IDS, camera_ids=IDS
    )
    refused(read_labeled_features, path, "'features'", "holds Python objects")
    assert not any(map(os.path.exists, marks))
    np.load(path, allow_pickle=True)["features"]  # the payload works
    assert os.path.exists(marks[1])


@pytest.mark.parametrize(
    "values,words",
    [
        (X.astype(int), ["int64", "float array of shape (images, dimensions)"]),
        (X.astype(complex), ["complex128"]),
        (X.astype(str), ["<U"]),
        (X > 0, ["bool"]),
        (np.zeros(6, [("a", "f4")]), ["of shape (6,)"]),
        (X[0], ["of shape (4,)"]),
        (X[:, :, None], ["of shape (6, 4, 1)"]),
        (X[:, :0], ["of shape (6, 0)"]),
        (X[:0], ["'global' has no images", "(0, 4)"]),
        (np.float32(1), ["of shape ()"]),
    ],
)
def test_view__of_wrong_kind_or_shape(save, values, words):
    refused(read_feature_set, save(**{"global": values}), "'global'", *words)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_view__floats_of_any_size_are_read(save, dtype):
    features, _ = read_feature_set(save(**{"global": X.astype(dtype)}))
    assert features.views["global"].dtype == np.float32
    np.testing.assert_allclose(features.views["global"], X, rtol=1e-3)


@pytest.mark.parametrize("name", ["camera_ids", "identities", "top", "student/global"])
def test_rows__have_to_be_as_many(save, name):
    values = IDS[:5] if name in ("camera_ids", "identities") else X[:5]
    words = f"'{name}' has 5 entries but 'global' has 6"
    refused(read_feature_set, save(**{"global": X, name: values}), words)


@pytest.mark.parametrize("ids", [X[:, 0], IDS[:, None], np.array(list("abcdef"))])
def test_camera_ids__are_integers(save, ids):
    refused(read_feature_set, save(**{"global": X, "camera_ids": ids}), "'camera_ids'", "integers")


def test_camera_ids__negative_ones_are_names(save):
    features, _ = read_feature_set(save(**{"global": X, "camera_ids": IDS - 3}))
    assert features.camera_ids.tolist() == [-3, -2, -1, 0, 1, 2]


@pytest.mark.parametrize("name", sorted(RESERVED - {"camera_ids", "identities"}))
def test_view__that_reads_as_something_else_in_a_report(save, name):
    with pytest.raises(UserError, match=f"named '{name}'.*; rename it"):
        read_feature_set(save(**{"global": X, name: X}))


def test_view__with_a_line_break(save):
    refused(read_feature_set, save(**{"global": X, "a\nb": X}), "'a\\nb'", "rename it")


def test_files__that_are_no_archive(tmp_path):
    (tmp_path / "text.npz").write_text("global")
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "folder.npz").mkdir()
    np.savez(tmp_path / "whole.npz", **{"global": X})
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "notes.npz", "w") as archive:
        archive.writestr("global.txt", "no array")
    for name, word in (
        ("text.npz", "not an .npz file"), ("empty.npz", "not an .npz file"),
        ("one.npy", "a single array"), ("folder.npz", "a folder"), ("half.npz", "not an .npz"),
        ("gone.npz", "no such file"), ("notes.npz", "no numpy array"),
    ):  # fmt: skip
        refused(read_npz, str(tmp_path / name), word)


def test_archive__with_damaged_bytes(tmp_path):
    np.savez(tmp_path / "f.npz", **{"global": X})
    content = bytearray((tmp_path / "f.npz").read_bytes())
    content[200] ^= 255  # inside the array: the checksum does not fit
    (tmp_path / "f.npz").write_bytes(content)
    refused(read_feature_set, str(tmp_path / "f.npz"), "'global' is damaged")


def test_archive__that_claims_more_than_the_memory(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 100000), }"
    header += " " * (117 - len(header)) + "\n"
    magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("global.npy", magic + header.encode())
    refused(read_feature_set, str(tmp_path / "f.npz"), "'global'")


def test_file__without_permission(save, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = save(**{"global": X})
    monkeypatch.setattr(npz.np, "load", denied)
    refused(read_npz, path, "no permission to read it")


def test_pair__of_different_dimensions(tmp_path):
    for name, x in (("q", X), ("g", X[:, :3])):
        np.savez(tmp_path / f"{name}.npz", features=x, identities=IDS, camera_ids=IDS)
    with pytest.raises(UserError, match=r"q\.npz: 'features' has 4 dimensions but 3 in .*g\.npz"):
        read_pair(tmp_path / "q.npz", tmp_path / "g.npz")


@pytest.mark.parametrize(
    "name,values,words",
    [
        ("uncertainty", np.array(list("abcdef")), "must be floats of shape (images,)"),
        ("uncertainty", X, "must be floats of shape (images,)"),
        ("uncertainty", np.float64(3), "must be floats of shape (images,)"),
        ("clusters/global", X[:, 0], "must be integers of shape (images,)"),
        ("identities", X[:, 0] * 1j, "must be integers of shape (images,)"),
        ("identities", IDS[:4], "differ in length"),
    ],
)
def test_uncertainty__of_wrong_kind_or_shape(save, name, values, words):
    arrays = {"uncertainty": X[:, 0], "clusters/global": IDS, "identities": IDS}
    path = save(**arrays)
    assert [len(values) for values in read_uncertainty(path)] == [6, 6, 6]
    refused(read_uncertainty, save(**arrays | {name: values}), f"'{name}'", words)
