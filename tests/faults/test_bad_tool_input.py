"""Mistakes in what tools/label_features.py is given: exit code 2 and no file."""

import os

import numpy as np
import pytest

from fastreid_uda.cli import label
from fastreid_uda.errors import UserError
from fastreid_uda.evaluation.feature_files import read_labeled_features
from tests.helpers import ROOT, make_features

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
OPTIONS = ["--config-file", str(ROOT / "configs/Synthetic/baseline.yml"), "UDA.CLUSTER.EPS", "0.6",
           "UDA.CAMERA_NORMALIZATION", "False"]  # fmt: skip


@pytest.fixture(scope="module")
def label_features():
    return label.main


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_not_finite__is_refused_by_both_tools(save, label_features, tmp_path, capsys, value):
    features, _ = make_features()
    x = features.views["global"].astype(np.float64)
    x[5, 3] = value
    out = tmp_path / "labels.npz"
    assert label_features([save(**{"global": x}), "--out", str(out), *OPTIONS]) == 2
    assert "1 of 96 images are not finite (rows 5)" in capsys.readouterr().err
    assert not out.exists()
    ids = np.arange(96)
    path = save(features=x, identities=ids, camera_ids=ids)
    with pytest.raises(UserError, match="1 of 96 rows of 'features' hold NaN or infinity"):
        read_labeled_features(path)


def test_zero_rows__are_labelled_and_said(save, label_features, tmp_path, heard):
    features, _ = make_features(noise=0.1)
    x = features.views["global"].copy()
    x[7] = 0
    out = str(tmp_path / "labels.npz")
    assert label_features([save(**{"global": x}), "--out", out, *OPTIONS]) == 0
    assert "1 feature rows are zero" in heard.text and np.load(out)["labels/global"][7] == -1


def test_round__out_of_range(save, label_features, tmp_path, capsys):
    path = save(**{"global": X})
    for number in ("-1", "10000"):
        out = tmp_path / "labels.npz"
        assert label_features([path, "--out", str(out), "--round", number, *OPTIONS]) == 2
        assert f"--round is {number}" in capsys.readouterr().err and not out.exists()


def test_out__that_cannot_be_written_is_said_before_labeling(
    save, label_features, tmp_path, capsys
):
    path = save(**{"global": X})
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    for out, words in (
        (tmp_path / "file/labels.npz", "is not a folder"), (tmp_path, "which is a folder"),
        (path, "which is read too"), (tmp_path / "pipe", "a device or a pipe"),
        ("", "--out is empty"),
    ):  # fmt: skip
        assert label_features([path, "--out", str(out), *OPTIONS]) == 2
        assert words in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before and (np.load(path)["global"] == X).all()
