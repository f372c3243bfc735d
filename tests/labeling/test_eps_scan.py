import logging
from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score, silhouette_score

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.blockwise import BlockwiseDistances
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.clustering import DBSCAN, KMeans
from fastreid_uda.labeling.collapse import check_trainable
from fastreid_uda.labeling.distances import Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.eps import EPS_RULES
from fastreid_uda.labeling.eps_report import pair_f1, table
from fastreid_uda.labeling.eps_scan import Scan, ScanRow, recommend, scan
from fastreid_uda.labeling.pairwise import SparseDistances
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels
from tests.helpers import make_features

MEASURES = {"jaccard": Jaccard(20, 6), "cosine": Cosine(), "euclidean": Euclidean()}
GRIDS = {"jaccard": [0.15, 0.3, 0.6], "cosine": [0.15, 0.22, 0.5], "euclidean": [0.6, 0.7, 1.0]}


def measured(name, **options):
    """Distances, camera ids, the clusterer at an eps, identities."""
    features, identities = make_features(**options)
    x = normalize_rows(features.views["global"])
    distances = MEASURES[name].measure(x)
    return distances, features.camera_ids, partial(clustered, x, distances), identities


def clustered(x, distances, eps):
    return DBSCAN(4).cluster(x, distances, eps, 0)


def dense(distances):
    return np.vstack([block for _, _, block in distances.row_blocks()])


@pytest.mark.parametrize("name", MEASURES)
def test_scan__rows_equal_a_naive_loop(name):
    distances, cameras, cluster, _ = measured(name, noise=0.5)
    rows, labels = scan(distances, cameras, cluster, GRIDS[name])
    untouched, full = measured(name, noise=0.5)[2], dense(distances)
    previous = None
    for row, found, eps in zip(rows, labels, GRIDS[name], strict=True):
        np.testing.assert_array_equal(found, untouched(eps))
        members = {k: [n for n in range(96) if found[n] == k] for k in set(found) - {OUTLIER}}
        kept = [n for n in range(96) if found[n] != OUTLIER]
        crossing = [k for k, images in members.items() if len({cameras[n] for n in images}) >= 2]
        assert (row.eps, row.clusters) == (eps, len(members))
        assert row.kept == len(kept) / 96
        assert row.largest == max(map(len, members.values())) / 96
        assert row.cross_camera == pytest.approx(len(crossing) / len(members))
        silhouette = 0
        if len(members) >= 2:
            inner = full[np.ix_(kept, kept)]
            silhouette = silhouette_score(inner, found[kept], metric="precomputed")
        assert row.silhouette == pytest.approx(silhouette, abs=2e-6)
        assert row.score == pytest.approx(silhouette * len(kept) / 96, abs=2e-6)
        if previous is None:
            assert row.stability is None
        else:
            both = [n for n in kept if previous[n] != OUTLIER]
            expected = adjusted_rand_score(previous[both], found[both])
            assert row.stability == pytest.approx(expected)
        previous = found
    assert len({row.clusters for row in rows}) > 1  # the eps differ in something


def test_scan__without_cameras_and_without_clusters():
    distances, _, cluster, _ = measured("cosine", noise=1.0)
    rows, labels = scan(distances, None, cluster, [1e-6, 0.5])
    assert rows[0].cross_camera is None and rows[1].cross_camera is None
    assert (rows[0].clusters, rows[0].kept, rows[0].largest, rows[0].silhouette) == (0, 0, 0, 0)
    assert rows[1].stability == 0 and (labels[0] == OUTLIER).all()


@pytest.mark.parametrize("images,crowded", [(100, False), (101, True)])
def test_scan__a_tenth_of_more_than_100_images_is_crowded(images, crowded):
    distances = BlockwiseDistances(np.arange(images, dtype=np.float32)[:, None], "euclidean")
    labels = np.arange(images) // 11  # one cluster more than a tenth
    rows, _ = scan(distances, None, lambda eps: labels, [1.0])
    assert rows[0].crowded is crowded and rows[0].largest == 11 / images
    fewer, _ = scan(distances, None, lambda eps: np.arange(images) // 10, [1.0])
    assert not fewer[0].crowded


def row(eps, clusters=10, kept=0.5, largest=0.05, silhouette=0.5, crowded=False):
    return ScanRow(eps, clusters, kept, None, largest, silhouette, None, crowded)


def test_recommend__greatest_silhouette_times_kept():
    rows = [
        row(0.1, kept=0.2, silhouette=0.9),
        row(0.2, kept=0.6),
        row(0.3, kept=0.9, silhouette=0.3),
    ]
    assert recommend(rows) == (0.2, "")


def test_recommend__not_a_single_cluster():
    rows = [row(0.1, kept=0.1), row(0.2, kept=0.3), row(0.3, clusters=1, kept=1.0)]
    assert recommend(rows) == (0.2, "")
    assert recommend(rows[::-1]) == (0.2, "")


@pytest.mark.parametrize("number,place", [(1, 0), (2, 1), (3, 1), (5, 2)])
def test_recommend__of_equal_ones_the_middle(number, place):
    equal = [row(0.1 * n) for n in range(1, number + 1)]
    assert recommend([row(0.01, kept=0.4), *equal, row(0.9, kept=0.4)])[0] == equal[place].eps


def test_recommend__a_crowded_cluster_says_so():
    rows = [row(0.1, kept=0.4), row(0.2, largest=0.3, crowded=True)]
    eps, doubt = recommend(rows)
    assert eps == 0.2 and "eps 0.2 one cluster holds 30% of the images, more than a tenth" in doubt


@pytest.mark.parametrize("name", MEASURES)
def test_scan__one_person_with_more_than_a_tenth_does_not_spoil_it(name):
    features, identities = make_features(40, 12, noise=0.4)
    x = features.views["global"]
    often = x[identities == 0]
    more = np.random.default_rng(5).normal(scale=0.4, size=(80, x.shape[1])).astype(np.float32)
    x = normalize_rows(np.concatenate([x, often.mean(axis=0) + more]))
    identities = np.concatenate([identities, np.zeros(80, np.int64)])
    distances = MEASURES[name].measure(x)
    found = Scan().scan(distances, None, lambda eps: DBSCAN(4).cluster(x, distances, eps, 0))
    truth = pair_f1(found.labels, identities)
    chosen = [row.eps for row in found.rows].index(found.eps)
    assert found.rows[chosen].crowded and "more than a tenth" in found.doubt
    assert max(truth) > 0.8 and max(truth) - truth[chosen] <= 0.06


def test_recommend__no_two_clusters_says_so():
    eps, doubt = recommend([row(0.1, clusters=0, kept=0), row(0.2, clusters=1, kept=0.3)])
    assert eps == 0.2 and "None of the 2 eps" in doubt and "UDA.CLUSTER.SCAN" in doubt


@pytest.mark.parametrize("noise", [0.1, 0.6, 1.0, 1.5])
@pytest.mark.parametrize("name", MEASURES)
def test_scan__recommends_nearly_the_best_eps(name, noise):
    measures = measured(name, num_identities=30, images=12, cameras=4, dim=64, noise=noise)
    *scanned, identities = measures
    found = Scan().scan(*scanned)
    truth = pair_f1(found.labels, identities)
    chosen = [row.eps for row in found.rows].index(found.eps)
    assert max(truth) - truth[chosen] <= 0.06
    assert max(truth) > 0.3  # there is something to lose
    assert found.rows[chosen].clusters >= 2
    assert Scan().find(*scanned) == found.eps


def test_scan__few_people_are_found_with_a_doubt():
    found = Scan().scan(*measured("cosine", num_identities=3, images=60, noise=0.3)[:3])
    chosen = next(row for row in found.rows if row.eps == found.eps)
    assert chosen.clusters == 3 and chosen.kept == 1 and "more than a tenth" in found.doubt


@pytest.mark.parametrize("name", MEASURES)
def test_grid__begins_with_few_neighbours_and_ends_with_half_of_the_images(name):
    distances, _, cluster, _ = measured(name, num_identities=40, images=10, noise=1.2)
    grid, full = Scan().grid(distances, cluster), dense(distances)
    sizes = [np.bincount(cluster(eps)[cluster(eps) != OUTLIER], minlength=1).max() for eps in grid]
    assert (full <= grid[0]).mean() * 400 == pytest.approx(1.5, abs=0.1)
    assert sizes[-1] > 200 >= max(sizes[:-1])
    assert len(grid) == 13 and grid == sorted(set(grid))
    assert all(eps == float(f"{eps:.4g}") for eps in grid)


def test_grid__ends_with_50_neighbours_if_no_cluster_holds_half():
    distances, _, cluster, _ = measured("cosine", num_identities=6, images=80, noise=0.1)
    grid = Scan(steps=5).grid(distances, cluster)
    assert len(grid) == 5
    assert (dense(distances) <= grid[-1]).mean() * 480 == pytest.approx(50, abs=0.5)


def test_grid__ends_that_are_set():
    distances, _, cluster, _ = measured("jaccard")
    assert Scan(0.3, 0.5, 3).grid(distances, cluster) == [0.3, 0.4, 0.5]
    from_data = Scan(highest=0.5, steps=4).grid(distances, cluster)
    assert from_data[0] == Scan(steps=4).grid(distances, cluster)[0] and from_data[-1] == 0.5
    np.testing.assert_allclose(np.diff(from_data), (0.5 - from_data[0]) / 3, atol=1e-4)
    assert Scan(lowest=0.1, steps=4).grid(distances, cluster)[0] == 0.1


def test_grid__errors():
    distances, _, cluster, _ = measured("jaccard")
    with pytest.raises(UserError, match=r"SCAN\.HIGHEST is 1\.2, but distances end at 1\.0"):
        Scan(highest=1.2).grid(distances, cluster)
    with pytest.raises(UserError, match=r"eps to try go from 0\.999 to .*set both"):
        Scan(lowest=0.999).grid(distances, cluster)
    alone = SparseDistances(csr_matrix((np.zeros(5, np.float32), (range(5), range(5)))))
    same = BlockwiseDistances(np.ones((5, 2), np.float32), "euclidean")
    for nothing in (alone, same):
        with pytest.raises(UserError, match="no eps to try"):
            Scan().grid(nothing, cluster)


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        ({"lowest": -0.1}, r"SCAN\.LOWEST is -0\.1"),
        ({"highest": float("inf")}, r"SCAN\.HIGHEST is inf"),
        ({"highest": float("nan")}, r"SCAN\.HIGHEST is nan"),
        ({"lowest": 0.5, "highest": 0.5}, r"SCAN\.HIGHEST is 0\.5, but UDA\.CLUSTER\.SCAN\.LOWEST"),
        ({"steps": 1}, r"SCAN\.STEPS is 1"),
    ],
)
def test_scan__refuses(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        Scan(**arguments)


@pytest.mark.parametrize("distance", [Jaccard(8, 2), Euclidean()], ids=["Jaccard", "Euclidean"])
def test_grid__identical_images_and_rounding_do_not_fill_it(distance):
    x = normalize_rows(make_features(30, 12)[0].views["global"])
    plain = distance.measure(x)
    x = np.concatenate([x, np.repeat(x[:1], 150, axis=0)])
    doubled = distance.measure(x)

    def clusterer(distances):
        return lambda eps: DBSCAN(4).cluster(x, distances, eps, 0)

    grids = [Scan().grid(one, clusterer(one)) for one in (plain, doubled)]
    assert len(grids[1]) >= len(grids[0]) - 2 and grids[1][0] > 1e-5
    few = distance.measure(np.repeat(x[:1], 30, axis=0))
    ends = Scan(lowest=0.1, highest=0.5, steps=3)
    assert ends.grid(few, clusterer(few)) == [0.1, 0.3, 0.5]


def test_scan__is_a_rule_of_the_config():
    assert EPS_RULES.defaults("Scan") == {"lowest": 0.0, "highest": 0.0, "steps": 13}
    with pytest.raises(ValueError, match="needs to cluster"):
        Scan().find(measured("cosine")[0])


def labeler(**options):
    return PseudoLabeler(
        **{"distance": Cosine(), "eps": Scan(), "clusterer": DBSCAN(4)} | options
    )  # fmt: skip


def test_pipeline__uses_the_eps_of_the_scan_and_keeps_it():
    features, _ = make_features(noise=0.5)
    found = labeler().scan_eps(features, Scan())["global"]
    labeling = labeler()(features)
    assert labeling.eps == {"global": found.eps}
    place = [row.eps for row in found.rows].index(found.eps)
    np.testing.assert_array_equal(labeling.clusters["global"].labels, found.labels[place])
    kept = {"global": found.rows[0].eps}
    assert labeler()(features, 1, 2, kept).eps == kept
    assert labeler(eps_update="every")(features, 1, 2, kept).eps == labeling.eps


def test_pipeline__scans_each_view_once_and_leaves_broken_images_out():
    features, _ = make_features(noise=0.5)
    x = features.views["global"].copy()
    rng = np.random.default_rng(0)
    x[[3, 50]] = np.nan
    views = {"global": x, "top": x[:, ::-1] + 0.3 * rng.normal(size=x.shape).astype(np.float32)}
    features, seen = FeatureSet(views, features.camera_ids), []
    observed = partial(watch, seen)
    scans = labeler(non_finite="drop").scan_eps(features, Scan(), observed)
    assert list(scans) == ["global", "top"] and len(seen) == 2
    assert scans["global"].eps != scans["top"].eps
    finite = np.isfinite(x).all(axis=1)
    alone = labeler().scan_eps(features.subset(finite), Scan())["global"]
    assert scans["global"].rows == alone.rows
    np.testing.assert_array_equal(scans["global"].labels[:, finite], alone.labels)
    assert (scans["global"].labels[:, ~finite] == OUTLIER).all()
    joined = labeler(non_finite="drop", join_views=True).scan_eps(features, Scan(), observed)
    assert joined["global"] is joined["top"] and len(seen) == 3


def watch(seen, grid):
    seen.append(grid)
    return grid


def test_pipeline__giant_clusters_are_warned_of(caplog):
    features, _ = make_features(num_identities=3, images=60, noise=0.05)
    rule = Scan(lowest=0.2, highest=0.25, steps=2)
    with caplog.at_level(logging.WARNING):
        labeling = labeler(eps=rule)(features)
    assert "At the recommended eps 0.25 one cluster holds 33% of the images" in caplog.text
    assert "one cluster holds 60 of 180 images; look at UDA.CLUSTER.EPS" in caplog.text
    assert labeling.eps["global"] == labeler().scan_eps(features, rule)["global"].eps


def test_giant_cluster__that_a_refiner_drops_is_warned_of_too(caplog):
    labels = np.repeat(np.arange(11), [21] + [18] * 10)  # of 201 images
    raw = make_pseudo_labels(labels, np.ones((201, 2)))
    with caplog.at_level(logging.WARNING):
        check_trainable({"global": raw}, {"global": raw.drop(labels == 0)}, {"global": 0.5})
    assert "one cluster holds 21 of 201 images" in caplog.text
    caplog.clear()
    tenth = make_pseudo_labels(np.repeat(np.arange(11), [20] + [18] * 10), np.ones((200, 2)))
    check_trainable({"global": tenth}, {"global": tenth}, {"global": 0.5})
    assert not caplog.text


def test_pipeline__no_scan_without_an_eps():
    with pytest.raises(UserError, match=r"CLUSTER\.NAME is KMeans, which has no eps to scan"):
        labeler(clusterer=KMeans(5)).scan_eps(make_features()[0], Scan())


def test_pair_f1__counts_pairs_of_all_images():
    identities = np.array([0, 0, 0, 1, 1, -1])
    labels = np.array([[0, 0, 1, 1, OUTLIER, 0], [OUTLIER] * 6, [0, 0, 0, 1, 1, 1]])
    pairs = [(i, j) for i in range(5) for j in range(i)]
    for found, row in zip(pair_f1(labels, identities), labels, strict=True):
        together = [row[i] == row[j] != OUTLIER for i, j in pairs]
        same = [identities[i] == identities[j] for i, j in pairs]
        right = sum(a and b for a, b in zip(together, same, strict=True))
        assert found == pytest.approx(2 * right / (sum(together) + sum(same)))


def test_table__a_line_for_each_eps_and_an_arrow():
    rows = [row(0.1), row(0.25)]
    lines = table(rows, 0.25, {"pair F1": [0.5, 0.75]}).splitlines()
    assert len(lines) == 3 and lines[0].endswith("score  pair F1")
    assert lines[1].endswith("0.500") and lines[2].endswith("0.750 <-")
    assert len({len(line.removesuffix(" <-")) for line in lines}) == 1


@pytest.mark.parametrize("name", MEASURES)
def test_radii__are_the_order_statistics_of_all_pairs(name):
    distances = measured(name, noise=0.5)[0]
    upper = np.sort(dense(distances)[np.triu_indices(96, 1)])
    upper = upper[upper > 2e-6]
    found = distances.radii(np.array([1.0, 1.5, 4.0, 20.0, 96.0]))
    places = [max(1, round((k - 1) * 48)) - 1 for k in (1, 1.5, 4, 20, 96)]
    last = 1 if name == "jaccard" else upper[-1]
    expected = [upper[place] if place < len(upper) else last for place in places]
    np.testing.assert_array_equal(found, np.float32(expected))
    assert distances.radii(np.array([1000.0])) == (1 if name == "jaccard" else upper[-1])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_keep_within__changes_nothing_but_the_time(metric, monkeypatch):
    x = normalize_rows(make_features(noise=0.3)[0].views["global"])
    plain, kept = (BlockwiseDistances(x, metric, block_rows=20) for _ in range(2))
    kept.keep_within(0.7)
    part = kept.subset(np.arange(10, 40))
    for radius in (0.0, 0.5, 0.7, float(np.nextafter(np.float32(0.7), np.float32(1))), 0.9):
        for one, other in ((plain, kept), (plain.subset(np.arange(10, 40)), part)):
            expected, found = one.within(radius), other.within(radius)
            np.testing.assert_array_equal(found.indptr, expected.indptr)
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_array_equal(found.data, expected.data)
    monkeypatch.setattr(kept, "_block", None)  # nothing is computed any more
    assert kept.within(0.6).nnz > 96
