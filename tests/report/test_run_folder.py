import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.report.run_folder import read_label_file, read_run
from tests.report.runs import write_run


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path / "run", views=("global", "top"), uncertainty=True, images=False)
    return tmp_path / "run"


def test_run__whole(run):
    found = read_run(run)
    assert list(found.label_files) == [0, 1, 2] and len(found.records) == 3
    assert len(found.images) == 80 and found.notes == []
    arrays = found.read_round(1)
    assert list(arrays.labels) == ["global", "top"] and arrays.num_images == 80
    assert set(arrays.facts) == {"identities", "camera_ids", "weights", "uncertainty"}
    assert arrays.map_features.shape == (60, 32) and 0 < arrays.map_variance <= 1


@pytest.mark.parametrize("gone", ["summary.json", "labels/round_001.npz", "labels/images.txt"])
def test_run__what_is_missing_is_said(run, gone):
    (run / gone).unlink()
    notes = read_run(run).notes
    assert len(notes) == 1
    assert ("round(s) 1 are missing" if gone.endswith("npz") else gone) in notes[0]


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff"])
def test_run__damaged_summary_is_said(run, damage):
    (run / "summary.json").write_bytes(damage)
    found = read_run(run)
    assert found.summary == {} and "summary.json is damaged" in found.notes[0]


def test_run__figures_that_are_not_finite_are_not_known(run):
    (run / "summary.json").write_text('{"rounds": [{"round": 0, "mAP": NaN, "eps": Infinity}]}')
    assert read_run(run).records == [{"round": 0, "mAP": None, "eps": None}]


def test_run__damaged_label_file_is_left_out(run):
    (run / "labels/round_001.npz").write_bytes(b"PK")
    found = read_run(run)
    assert found.read_round(1) is None and "Round 1 is left out" in found.notes[0]


def test_no_run__one_sentence(tmp_path):
    for path, sentence in (
        (tmp_path, "holds neither"),
        (tmp_path / "no", "is no folder"),
        ("", "OUTPUT_DIR is no folder"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_run(path)


@pytest.mark.parametrize(
    "change,sentence",
    [
        ({"labels/global": np.zeros(3)}, "'labels/global' is float64"),
        ({"labels/top": np.zeros(4, int)}, "'labels/top' is int64 of shape"),
        ({"silhouette/global": np.zeros(2)}, "'silhouette/global'"),
        ({"identities": np.zeros((3, 1), int)}, "'identities'"),
    ],
)
def test_label_file__arrays_that_do_not_fit(tmp_path, change, sentence):
    np.savez(tmp_path / "r.npz", **{"labels/global": np.zeros(3, int), **change})
    with pytest.raises(UserError, match=sentence):
        read_label_file(tmp_path / "r.npz", 0)


def test_label_file__without_labels_and_of_an_earlier_version(tmp_path):
    np.savez(tmp_path / "r.npz", other=np.zeros(3))
    with pytest.raises(UserError, match="is it a label file"):
        read_label_file(tmp_path / "r.npz", 0)
    np.savez(tmp_path / "r.npz", **{"labels/global": np.array([0, 0, -1])})
    arrays = read_label_file(tmp_path / "r.npz", 4)
    assert arrays.clusters["global"].tolist() == [0, 0, -1] and arrays.map_rows is None
    assert arrays.facts == {} and arrays.silhouettes == {}


@pytest.mark.parametrize(
    "rows,features",
    [([0, 3], np.zeros((2, 1))), ([0], np.zeros((2, 1))), ([0, 1], np.full((2, 1), np.nan)),
     ([], np.zeros((0, 2))), ([0, -1], np.zeros((2, 1)))],
)  # fmt: skip
def test_label_file__map_that_does_not_fit_is_none(tmp_path, rows, features):
    np.savez(tmp_path / "r.npz", **{
        "labels/global": np.zeros(3, int), "map/rows": np.array(rows, int), "map/features": features
    })  # fmt: skip
    assert read_label_file(tmp_path / "r.npz", 0).map_rows is None
