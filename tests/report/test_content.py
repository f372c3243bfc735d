import json

import numpy as np
import pytest

from fastreid_uda.labeling.identity_scores import mixed_and_fragmented
from fastreid_uda.report.charts import make_charts
from fastreid_uda.report.content import Wishes, collect, kinds_of_error, scores_of
from fastreid_uda.report.run_folder import read_run
from tests.report.runs import write_run


def rewrite(path, **changed):
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{name: change(arrays[name]) for name, change in changed.items()}
             | {name: x for name, x in arrays.items() if name not in changed})  # fmt: skip


def figures_of(folder, **wishes):
    content = collect(read_run(folder), Wishes(**{"map_rounds": 0, **wishes}))
    return json.loads(json.dumps(content.figures, allow_nan=False))  # plain values, none of NaN


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich") / "run"
    write_run(folder, views=("global", "top"), uncertainty=True, images=False, teachers=2)
    return folder


def test_figures__facts_scores_and_rounds(rich):
    figures = figures_of(rich)
    run = figures["run"]
    assert (run["images"], run["identities"], run["cameras"]) == (80, 10, 3)
    assert run["views"] == ["global", "top"] and run["method"] == "P2LR <&>"
    assert figures["scores"]["direct_transfer"] == {"mAP": 15.0, "Rank-1": 21.0}
    assert figures["scores"]["last"]["teacher_2/mAP"] == 22.0
    assert [r["round"] for r in figures["rounds"]] == [0, 1, 2] and figures["notes"] == []
    for entry, record in zip(figures["labels"], figures["rounds"], strict=True):
        sizes = entry["views"]["global"]["sizes"]
        assert sum(sizes) == record["quality"]["global/kept"]
    for entry in figures["uncertainty"]["rounds"]:
        assert sum(entry["right"]) + sum(entry["wrong"]) <= 79


def test_figures__clusters_of_the_round_that_is_asked_for(rich):
    assert figures_of(rich)["sheets"]["round"] == 2
    sheets = figures_of(rich, round=1, clusters=2)["sheets"]
    assert sheets["round"] == 1 and len(sheets["examples"]) == 2
    shown = {row for e in sheets["examples"] for row in e["most"] + e["least"]}
    assert shown <= set(map(int, sheets["images"]))
    assert figures_of(rich, clusters=0)["sheets"]["examples"] == []


def test_map__places_and_what_they_are_coloured_by(rich):
    figures = figures_of(rich, map_rounds=2)
    first, last = figures["map"]["rounds"]
    assert (first["round"], last["round"]) == (0, 2) and figures["map"]["measure"] == "uncertainty"
    labels = np.load(rich / "labels/round_002.npz")
    rows = labels["map/rows"]
    assert last["rows"] == rows.tolist() and last["label"] == labels["labels/global"][rows].tolist()
    assert last["camera"] == labels["camera_ids"][rows].tolist()
    for name in ("x", "y", "certainty", "identity", "kind", "cluster"):
        assert len(last[name]) == len(rows)


def test_kinds_of_error__are_those_of_the_noise():
    rng = np.random.default_rng(0)
    labels, people = rng.integers(-1, 5, size=60), rng.integers(-1, 6, size=60)
    mixed, fragmented = mixed_and_fragmented(labels, people)
    for n, kind in enumerate(kinds_of_error(labels, people)):
        known = labels[n] >= 0 and people[n] >= 0
        assert kind == (mixed[n] + 2 * fragmented[n] if known else -1)


def test_scores_of__all_teachers_and_nothing_else():
    record = {"mAP": 1.0, "teacher_2/Rank-1": 2.0, "metric": 3.0, "kept": 4, "Set/mAP": 5.0}
    assert scores_of(record) == {"mAP": 1.0, "teacher_2/Rank-1": 2.0}
    assert scores_of(None) == {}


def test_run_under_way__the_last_round_is_counted_from_its_file(rich, tmp_path):
    folder = tmp_path / "run"
    write_run(folder, images=False)
    summary = json.loads((folder / "summary.json").read_text())
    summary["rounds"].pop()
    (folder / "summary.json").write_text(json.dumps(summary))
    records = figures_of(folder)["rounds"]
    assert [r.get("unfinished", False) for r in records] == [False, False, True]
    assert records[2]["quality"]["stability_ari"] > 0
    assert -1 <= records[2]["quality"]["silhouette"] <= 1


def test_figures__an_image_without_identity_is_neither_right_nor_wrong(tmp_path):
    write_run(tmp_path, rounds=1, images=False, map_images=0)
    rewrite(tmp_path / "labels/round_000.npz", identities=lambda x: np.where(x < 5, -1, x))
    images = figures_of(tmp_path, clusters=99)["sheets"]["images"].values()
    assert {image["right"] for image in images if image["identity"] == -1} == {None}
    assert None not in {image["right"] for image in images if image["identity"] != -1}


def test_figures__rounds_and_lists_of_other_lengths_are_said(tmp_path):
    write_run(tmp_path, rounds=2, images=False, map_images=0)
    with np.load(tmp_path / "labels/round_001.npz") as archive:
        cut = {name: x[:70] if x.shape == (80,) else x for name, x in archive.items()}
    kept = np.unique(cut["labels/global"])
    for name in ("labels/global", "clusters/global"):
        cut[name] = np.searchsorted(kept, cut[name]) - (kept[0] == -1)
    np.savez(tmp_path / "labels/round_001.npz", **cut)
    figures = figures_of(tmp_path)
    first, second = figures["notes"]
    assert first.startswith("Round 1 has labels of 70 images, the round before of 80:")
    assert second.startswith("labels/images.txt names 80 images, but the labels are of 70")
    assert {image["path"] for image in figures["sheets"]["images"].values()} == {None}


@pytest.mark.parametrize("seed", [-5, 2**40])
def test_map__any_seed(tmp_path, seed):
    write_run(tmp_path, rounds=1, images=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"seed": seed}))
    assert len(figures_of(tmp_path, map_rounds=1)["map"]["rounds"]) == 1


def test_charts__one_for_each_figure_that_is_there(rich):
    charts = make_charts(figures_of(rich))
    assert {
        "map", "rank1", "clusters", "kept", "eps", "stability", "changed", "cross_camera",
        "silhouette", "consistency", "agreement", "pairs", "noise", "noisy_groups", "accuracy",
        "uncertainty", "uncertainty_auc", "seconds",
    } <= set(charts)  # fmt: skip
    assert [s.name for s in charts["map"].series] == ["teacher 1", "teacher 2"]
    assert charts["map"].levels == {"direct transfer": 15.0}
    noise, records = charts["noise"], figures_of(rich)["rounds"]
    for place, record in enumerate(records):
        total = sum(series.values[place] for series in noise.series)
        quality = record["quality"]
        expected = quality["noise/mixed"] + quality["noise/fragmented"] - quality["noise/both"]
        assert total == pytest.approx(100 * expected)


def test_charts__of_a_run_that_knows_little(tmp_path):
    write_run(tmp_path / "run", rounds=1, identities=False, cameras=False, scores=False,
              kmeans=True, images=False, map_images=0)  # fmt: skip
    figures = figures_of(tmp_path / "run", map_rounds=8)
    assert figures["map"] is None and figures["uncertainty"] is None
    charts = make_charts(figures)
    assert {"clusters", "kept", "silhouette", "seconds"} <= set(charts)
    assert not {"map", "agreement", "pairs", "noise", "accuracy", "stability"} & set(charts)
    assert charts["silhouette"].title == "Silhouette to centroids"
