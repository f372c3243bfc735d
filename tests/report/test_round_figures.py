import numpy as np
import pytest

from fastreid_uda.report.round_figures import (
    counts_within,
    histogram_edges,
    record_of,
    silhouette_kind,
    size_bins,
    uncertainty_groups,
    view_figures,
)
from fastreid_uda.report.run_folder import read_run
from tests.report.runs import write_run


def test_view_figures__equal_loops():
    rng = np.random.default_rng(0)
    labels, cameras = rng.integers(-1, 7, size=90), rng.integers(0, 4, size=90)
    figures = view_figures(labels, cameras)
    clusters = [np.flatnonzero(labels == k) for k in range(7)]
    assert figures["sizes"] == sorted((len(rows) for rows in clusters), reverse=True)
    seen = [len({cameras[row] for row in rows}) for rows in clusters]
    assert figures["cameras_per_cluster"] == [seen.count(n) for n in range(1, 5)]
    for entry in figures["by_camera"]:
        mine = cameras == entry["camera"]
        assert entry["images"] == sum(mine) and entry["kept"] == sum(mine & (labels >= 0))
        assert entry["clusters"] == len(set(labels[mine]) - {-1})


def test_view_figures__nothing_kept_and_no_cameras():
    assert view_figures(np.full(3, -1), None) == {"sizes": []}
    figures = view_figures(np.full(3, -1), np.array([0, 0, 5]))
    assert figures["cameras_per_cluster"] == [0, 0]
    assert [entry["kept"] for entry in figures["by_camera"]] == [0, 0]


def test_size_bins__cover_all_sizes_once():
    for largest in (0, 1, 12, 13, 400):
        bins = size_bins(largest)
        sizes = [size for a, b in bins for size in range(a, b + 1)]
        assert sizes == list(range(1, len(sizes) + 1)) and sizes[-1] >= largest


def test_histogram__all_values_count_and_the_last_bin_is_open():
    values = np.concatenate([np.linspace(0, 1, 1000), [50.0]])
    edges = histogram_edges([values, np.zeros(0)])
    assert edges[0] == 0 and 0.99 < edges[-1] < 1.01
    counts = counts_within(values, edges)
    assert sum(counts) == 1001 and counts[-1] >= 25
    assert histogram_edges([np.zeros(3)])[-1] == 1.0


def test_uncertainty_groups__right_and_wrong_or_all(tmp_path):
    write_run(tmp_path / "a", rounds=1, uncertainty=True, images=False)
    write_run(tmp_path / "b", rounds=1, uncertainty=True, images=False, identities=False)
    write_run(tmp_path / "c", rounds=1, images=False)
    both, one, none = (
        uncertainty_groups(read_run(tmp_path / name).read_round(0)) for name in "abc"
    )
    assert set(both) == {"right", "wrong"} and set(one) == {"all"} and none == {}
    assert len(one["all"]) == 79 and not np.isnan(one["all"]).any()


def test_record_of__equals_that_of_the_run(tmp_path):
    write_run(tmp_path / "run", views=("global", "top"), uncertainty=True, images=False)
    run = read_run(tmp_path / "run")
    first, second = (run.read_round(number) for number in (1, 2))
    kind = silhouette_kind(second, [])
    record, expected = record_of(second, first, kind), run.records[2]
    assert record["unfinished"] and record["kept"] == expected["kept"]
    of_clusters = {k for k in expected["quality"] if "clusters/silhouette" in k}
    known = {k: v for k, v in expected["quality"].items() if k not in of_clusters}
    assert {"silhouette", "top/silhouette"} <= set(known)
    assert record["quality"] == pytest.approx(known, abs=1e-3)  # the file has float16


def test_silhouette_kind__by_the_radius_else_by_the_records(tmp_path):
    write_run(tmp_path, rounds=1, images=False, kmeans=True)
    run = read_run(tmp_path)
    arrays = run.read_round(0)
    assert silhouette_kind(arrays, run.records) == "silhouette/centroids"
    assert silhouette_kind(arrays, []) is None
    record = record_of(arrays, None, "silhouette/centroids")
    expected = run.records[0]["quality"]["silhouette/centroids"]
    assert record["quality"]["silhouette/centroids"] == pytest.approx(expected, abs=1e-3)
    assert not any("silhouette" in name for name in record_of(arrays, None)["quality"])
