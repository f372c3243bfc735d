import json

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.report.charts import make_charts
from fastreid_uda.report.content import Wishes, collect
from fastreid_uda.report.page import make_page
from fastreid_uda.report.run_folder import RunFolder, read_label_file, read_run
from fastreid_uda.report.summary_file import read_summary
from fastreid_uda.report.thumbnails import Thumbnails
from tests.report.runs import write_run, write_summary


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


WRONG = [
    *[(("best",), value) for value in ([1], "x")],
    *[((key,), {"mAP": "high"}) for key in ("direct_transfer", "last")],
    *[(("warnings",), value) for value in ([{}], "abc", [{"text": 1}])],
    *[((key,), {"a": 1}) for key in ("method", "target", "seed")],
    *[(("rounds", 1, "round"), value) for value in ("1", -1, True, 10**30)],
    *[(("rounds", 1, "quality"), value) for value in ([], "x", {"nmi": "x"}, {"nmi": 10**400})],
    *[(("rounds", 1, "seconds"), value) for value in (5, {"a": "x"})],
    *[(("rounds", 1, "kept_after"), value)
      for value in ([1], {"P": 3}, {"P": {"global": {"images": "x"}}})],
    *[(("rounds", 1, key), "many")
      for key in ("clusters", "kept", "train_seconds", "mAP", "peak_mb")],
]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("place", range(len(WRONG)))
def test_summary__entries_of_a_wrong_type_are_left_out_and_said(rich_summary, tmp_path, place):
    (*path, key), value = WRONG[place]
    summary = inner = json.loads(rich_summary)
    for step in path:
        inner = inner[step]
    inner[key] = value
    write_summary(tmp_path, summary)
    run = RunFolder(tmp_path, {}, {}, None)
    run.summary = read_summary(tmp_path / "summary.json", run.notes)
    (note,) = run.notes
    assert "entries of a wrong type are left out" in note and str((*path, key)[-1]) in note
    figures = collect(run, Wishes()).figures
    page = make_page(figures, make_charts(figures), Thumbnails(None))
    assert "left out" in page and json.dumps(figures, allow_nan=False)


@pytest.fixture(scope="module")
def rich_summary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    write_run(folder, rounds=2, images=False, map_images=0)
    return (folder / "summary.json").read_text()


def test_summary__a_whole_one_is_read_as_it_is(rich_summary, tmp_path):
    (tmp_path / "summary.json").write_text(rich_summary)
    notes = []
    assert read_summary(tmp_path / "summary.json", notes) == json.loads(rich_summary)
    assert notes == []


def test_summary__numbers_beyond_floats_are_not_known(tmp_path):
    (tmp_path / "summary.json").write_text('{"rounds": [{"round": 0, "mAP": 1e999}]}')
    assert read_summary(tmp_path / "summary.json", []) == {"rounds": [{"round": 0, "mAP": None}]}


def test_run__list_of_images_that_does_not_fit_is_said(run):
    found = read_run(run)
    found.check_images(80)
    assert found.notes == [] and found.images
    found.check_images(79)
    assert found.images is None
    assert found.notes == [
        "labels/images.txt names 80 images, but the labels are of 79: no images can be shown."
    ]


def test_run__damaged_label_file_is_left_out(run):
    (run / "labels/round_001.npz").write_bytes(b"PK")
    found = read_run(run)
    assert found.read_round(1) is None and "Round 1 is left out" in found.notes[0]


def test_no_run__one_sentence(tmp_path):
    for path, sentence in (
        (tmp_path, "holds no round"),
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
        ({"labels/global": np.array(1)}, "'labels/global' is int64 of shape"),
        ({"labels/global": np.array([0, -3, 1])}, "is damaged: it holds -3, but labels of 3"),
        ({"clusters/global": np.array([0, 10**12, 1])}, "it holds 1000000000000, but"),
        ({"labels/global": np.array([0, 3, 1], np.uint8)}, "it holds 3, but .* from -1 to 2"),
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


def test_label_file__numbers_that_are_not_finite_are_not_known(tmp_path):
    np.savez(tmp_path / "r.npz", **{
        "labels/global": np.array([0, 0, 1], np.uint8), "eps/global": np.array(np.nan),
        "silhouette/global": np.array([np.inf, 0.5, np.nan], np.float16),
        "uncertainty": np.array([-np.inf, 1, 1e300]), "weights": np.array([1, np.nan, 1]),
        "map/rows": np.arange(2), "map/features": np.ones((2, 2)),
        "map/variance": np.array([0.5, 0.5]),
    })  # fmt: skip
    arrays = read_label_file(tmp_path / "r.npz", 0)
    assert arrays.labels["global"].dtype == np.int64 and arrays.eps == {}
    np.testing.assert_array_equal(arrays.silhouettes["global"], [np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(arrays.fact("uncertainty"), [np.nan, 1, np.nan])
    assert arrays.fact("weights") is None
    assert arrays.map_rows is not None and arrays.map_variance is None


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
