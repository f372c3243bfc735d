from dataclasses import replace

import numpy as np
import pytest
import sklearn.cluster

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.blockwise import BlockwiseDistances
from fastreid_uda.labeling.clustering import DBSCAN, KMeans
from fastreid_uda.labeling.distances import Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.eps import CrossCamera, FixedEps
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.refiners import REFINERS, RefinerInputs
from fastreid_uda.labeling.refiners.nplp import NPLP, split_clusters
from fastreid_uda.labeling.types import (
    OUTLIER,
    FeatureSet,
    class_centroids,
    kept_in_all,
    make_pseudo_labels,
)
from tests.helpers import make_features
from tests.labeling.test_self_assessment import dense, naive_scores


def make_inputs(features, distances, labels, eps, round_index=15):
    """One view."""
    labels = np.asarray(labels, dtype=np.int64)
    given = FeatureSet({"global": features})
    clusters = {"global": make_pseudo_labels(labels, features)}
    return RefinerInputs(
        given, given, {"global": distances}, clusters, {"global": eps}, round_index, 30
    )


def on_a_line(positions, labels, eps, **options):
    """Images at positions of one dimension; the refiner's labels."""
    points = np.array(positions, dtype=np.float32)[:, None]
    inputs = make_inputs(points, BlockwiseDistances(points, "euclidean"), labels, eps)
    return NPLP(**options).refine(inputs)["global"]


def partition(labels):
    return {frozenset(np.flatnonzero(labels == k)) for k in set(labels.tolist()) - {OUTLIER}}


def people(seed=0, **options):
    """Unit features (72, 8) and the identities, which overlap."""
    options = {"num_identities": 12, "images": 6, "dim": 8, "noise": 0.6} | options
    features, identities = make_features(seed=seed, **options)
    x = features.views["global"]
    return x / np.linalg.norm(x, axis=1, keepdims=True), identities


def naive_nplp(full, labels, eps, share, beta, min_samples):
    """One bad cluster at a time, on its part of the dense distances."""
    scores = naive_scores(full, labels)[1]
    if len(scores) < 2:
        return labels
    count = max(1, int(share * len(scores) + 1e-9))
    result = labels.copy()
    for k in sorted(scores, key=lambda k: (scores[k], k))[:count]:
        members = np.flatnonzero(labels == k)
        dbscan = sklearn.cluster.DBSCAN(
            eps=beta * eps, min_samples=min_samples, metric="precomputed"
        )
        parts = dbscan.fit_predict(full[np.ix_(members, members)])
        result[members] = np.where(parts < 0, OUTLIER, 1000 * (k + 1) + parts)
    return result


@pytest.mark.parametrize(
    ("distance", "eps"), [(Euclidean(), 0.68), (Cosine(), 0.23), (Jaccard(10, 3), 0.551)]
)
@pytest.mark.parametrize("share", [0.1, 0.35, 1.0])
@pytest.mark.parametrize("source", ["dbscan", "random"])
def test_nplp__equals_dbscan_inside_each_bad_cluster(distance, eps, share, source):
    split = 0
    for seed in range(4):
        features, _ = people(seed)
        distances = distance.measure(features)
        labels = DBSCAN(3).cluster(features, distances, eps, 0)
        if source == "random":
            labels = np.random.default_rng(seed).permutation(labels)
        inputs = make_inputs(features, distances, labels, eps)
        refined = NPLP(share=share, beta=0.7, min_samples=2).refine(inputs)["global"]
        expected = naive_nplp(dense(distances), labels, eps, share, 0.7, 2)
        assert partition(refined.labels) == partition(expected)
        split += partition(expected) != partition(labels)
        assert refined.num_classes == len(partition(expected))
        centroids = class_centroids(features, refined.labels, refined.num_classes)
        assert (refined.centroids == centroids).all()
    assert split >= 2


def test_nplp__golden_toy():
    # Two people in cluster 1 (around 20 and 23) and a stray image; cluster 0 is compact. The
    # radius inside the bad cluster is 1.
    positions = [0, 0.5, 1, 1.5, 20, 20.5, 23, 23.5, 26, 40]
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 1, OUTLIER]
    refined = on_a_line(positions, labels, eps=2.0, min_samples=2)
    assert refined.labels.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, OUTLIER, OUTLIER]
    assert refined.weights.tolist() == [1] * 8 + [0, 0]


def test_nplp__startup_rounds_leave_the_labels_alone():
    points = np.float32([[0], [0.5], [20], [25]])
    inputs = make_inputs(points, Euclidean().measure(points), [0, 0, 1, 1], 10.0, round_index=14)
    refined = NPLP(min_samples=2).refine(inputs)
    assert refined["global"] is inputs.clusters["global"]
    assert refined is not inputs.clusters
    inputs = replace(inputs, round_index=15)
    assert NPLP(beta=0.1).refine(inputs)["global"].labels.tolist() == [0, 0, OUTLIER, OUTLIER]
    first = NPLP(startup_rounds=0, beta=0.1).refine(replace(inputs, round_index=0))
    assert first["global"].labels.tolist() == [0, 0, OUTLIER, OUTLIER]


@pytest.mark.parametrize(
    ("clusters", "share", "split"),
    [
        (2, 0.1, 1), (9, 0.1, 1), (10, 0.1, 1), (19, 0.1, 1), (20, 0.1, 2), (30, 0.1, 3),
        (100, 0.29, 29),  # 28.999999999999996 in floats
        (3, 1.0, 3), (7, 0.5, 3),
    ],
)  # fmt: skip
def test_nplp__number_of_bad_clusters(clusters, share, split):
    # Every cluster is two pairs on an axis of its own, and each bad one becomes two clusters.
    points = 100 * np.repeat(np.eye(clusters + 1, dtype=np.float32)[:-1], 4, axis=0)
    points[:, -1] = np.tile([0, 1, 30, 31], clusters)
    labels = np.repeat(range(clusters), 4)
    inputs = make_inputs(points, Euclidean().measure(points), labels, 4.0)
    refined = NPLP(share=share, min_samples=2).refine(inputs)["global"]
    assert refined.num_classes == clusters + split
    assert refined.kept.all()


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [1, 1, 0, 0]])
def test_nplp__of_equal_scores_the_lower_label_is_bad(labels):
    refined = on_a_line([0, 1, 9, 10], labels, 1.0, min_samples=2)  # mirror images of each other
    assert (refined.labels == OUTLIER).tolist() == [k == 0 for k in labels]


def test_nplp__the_worst_cluster_is_the_one_with_the_smallest_score():
    positions = [0, 1, 2, 100, 110, 120, 200, 205, 210]
    refined = on_a_line(positions, np.repeat([0, 1, 2], 3), 12.0, min_samples=2, share=0.1)
    assert refined.labels.tolist() == [0, 0, 0, *[OUTLIER] * 3, 1, 1, 1]


def test_nplp__a_cluster_can_vanish_and_all_of_them_can():
    positions, labels = [0, 4, 8, 100, 101, 102], [0, 0, 0, 1, 1, 1]
    assert on_a_line(positions, labels, 4.0, min_samples=3).labels.tolist() == [*[-1] * 3, 0, 0, 0]
    refined = on_a_line(positions, labels, 1.0, share=1.0)
    assert (refined.labels == OUTLIER).all() and refined.num_classes == 0


def test_nplp__one_cluster_stays_as_it_is():
    assert on_a_line([0, 5, 9, 30], [0, 0, 0, OUTLIER], 1.0).labels.tolist() == [0, 0, 0, OUTLIER]
    assert on_a_line([0, 5], [OUTLIER] * 2, 1.0).labels.tolist() == [OUTLIER] * 2


def test_nplp__clusters_of_one_image_and_duplicates():
    # Score 0 for the lone image, 1 for the duplicates: the lone one is bad, and vanishes.
    labels = [0, 1, 1, 1, 2, 2, 2]
    assert on_a_line([0, 5, 5, 5, 9, 9, 9], labels, 1.0).labels.tolist() == [-1, 0, 0, 0, 1, 1, 1]
    # All images are the same, all scores 0: cluster 0 is clustered again and stays, being dense.
    refined = on_a_line([3] * 8, [0] * 4 + [1] * 4, 0.5)
    assert partition(refined.labels) == {frozenset(range(4)), frozenset(range(4, 8))}


def test_nplp__classes_without_images_are_no_clusters():
    positions = [0, 0.1, 50, 50.1, 53, 53.1]
    labels = [0, 0, 9, 9, 9, 9]
    # Two clusters, not ten: a tenth is the one around 50.
    refined = on_a_line(positions, labels, 1.0, share=0.5, min_samples=2)
    assert refined.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert refined.num_classes == 3


def test_nplp__keeps_weights_and_uncertainty_of_earlier_refiners():
    points = np.float32([[0], [0.2], [50], [50.1], [53], [57]])
    inputs = make_inputs(points, Euclidean().measure(points), [0, 0, 1, 1, 1, OUTLIER], 1.0)
    weights = np.float32([0.9, 0.8, 0.7, 0.6, 0.5, 0])
    uncertainty = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, np.nan])
    raw = replace(inputs.clusters["global"], weights=weights, uncertainty=uncertainty)
    refined = NPLP(min_samples=2).refine(replace(inputs, clusters={"global": raw}))["global"]
    assert refined.labels.tolist() == [0, 0, 1, 1, OUTLIER, OUTLIER]
    np.testing.assert_array_equal(refined.weights, np.float32([0.9, 0.8, 0.7, 0.6, 0, 0]))
    np.testing.assert_array_equal(refined.uncertainty, uncertainty)
    assert refined.weights.dtype == np.float32


def test_nplp__every_view_has_scores_distances_and_eps_of_its_own():
    line = {
        "global": np.float32([[0], [1], [50], [58]]),  # cluster 1 is the wide one
        "top": np.float32([[0], [8], [50], [51]]),  # cluster 0
    }
    given = FeatureSet(line)
    clusters = {v: make_pseudo_labels(np.array([0, 0, 1, 1]), x) for v, x in line.items()}
    distances = {v: Euclidean().measure(x) for v, x in line.items()}
    eps = {"global": 10.0, "top": 20.0}  # inside bad clusters 5 and 10
    inputs = RefinerInputs(given, given, distances, clusters, eps, 15, 30)
    refined = NPLP(min_samples=2).refine(inputs)
    assert refined["global"].labels.tolist() == [0, 0, OUTLIER, OUTLIER]
    assert partition(refined["top"].labels) == {frozenset({0, 1}), frozenset({2, 3})}
    assert list(refined) == ["global", "top"]


@pytest.mark.parametrize("distance", [Euclidean(), Cosine(), Jaccard(10, 3)], ids=repr)
def test_nplp__beta_1_gives_the_clusters_of_the_startup_stage_again(distance):
    features, _ = people(1, noise=0.35)
    distances = distance.measure(features)
    eps = {"Euclidean": 0.6, "Cosine": 0.2, "Jaccard": 0.55}[type(distance).__name__]
    labels = DBSCAN(4).cluster(features, distances, eps, 0)
    inputs = make_inputs(features, distances, labels, eps)
    refined = NPLP(share=1.0, beta=1.0).refine(inputs)["global"]
    # A border image within reach of two clusters helps the cores of both, and is in one of them.
    near = dense(distances) <= np.float32(eps)
    kept = labels != OUTLIER
    shared = near & kept & kept[:, None] & (labels != labels[:, None])
    apart = {c for c in partition(labels) if not shared[list(c)].any()}
    assert len(apart) >= 4
    assert apart <= partition(refined.labels)
    assert all(any(new <= old for old in partition(labels)) for new in partition(refined.labels))


def test_nplp__beta_1_drops_a_cluster_that_lost_its_border_image_to_another():
    # The image at 1 is in reach of 0 and 2 and no core; it makes the image at 2 one, and is taken
    # by the cluster of 0. The other cluster has three images then, too few by themselves.
    positions = [-0.75, -0.5, -0.25, 0, 1, 2, 2.25, 2.5]
    points = np.array(positions, dtype=np.float32)[:, None]
    distances = BlockwiseDistances(points, "euclidean")
    labels = DBSCAN(4).cluster(points, distances, 1.0, 0)
    assert labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    refined = on_a_line(positions, labels, 1.0, share=1.0, beta=1.0)
    assert refined.labels.tolist() == [0, 0, 0, 0, 0, *[OUTLIER] * 3]


def test_split_clusters__never_joins_images_of_different_clusters():
    points = np.zeros((12, 1), dtype=np.float32)
    labels = np.array([0, 1, 2] * 4)
    parts = split_clusters(BlockwiseDistances(points, "euclidean"), labels, 0.1, 4)
    assert parts.tolist() == labels.tolist()


def test_split_clusters__jaccard_keeps_the_distances_among_all_images():
    features, _ = people(2)
    distances = Jaccard(10, 3).measure(features)
    rows = np.arange(0, 72, 2)
    parts = split_clusters(distances.subset(rows), np.zeros(36, dtype=np.int64), 0.45, 3)
    full = dense(distances)[np.ix_(rows, rows)]
    dbscan = sklearn.cluster.DBSCAN(eps=0.45, min_samples=3, metric="precomputed")
    assert partition(parts) == partition(dbscan.fit_predict(full))
    assert len(partition(parts)) > 1


CHAINS = [("NPLP",), ("MSPLR", "NPLP"), ("NPLP", "MSPLR"), ("P2LR", "NPLP"), ("NPLP", "SECRET")]


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
@pytest.mark.parametrize("distance", [Jaccard(8, 2), Cosine(), Euclidean()], ids=repr)
@pytest.mark.parametrize("clusterer", [DBSCAN(2), KMeans(10, n_init=1)], ids=["dbscan", "kmeans"])
def test_nplp__in_chains_after_both_clusterers_with_all_distances(chain, distance, clusterer):
    features, _ = make_features(noise=0.1, num_identities=12, images=8)
    x = features.views["global"]
    noise = 0.05 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    features = replace(features, views={"global": x, "top": x + noise})
    options = {
        "NPLP": {"startup_rounds": 1, "min_samples": 2, "share": 0.3},
        "MSPLR": {"min_images": 2},
    }
    labeler = PseudoLabeler(
        distance, CrossCamera(0.06), clusterer,
        tuple(REFINERS.build(name, **options.get(name, {})) for name in chain),
        eps_update="every",
    )  # fmt: skip
    startup, correcting = labeler(features, 0, 3), labeler(features, 1, 3)
    assert set(correcting.eps) == {"global", "top"} == set(correcting.near_eps)
    for view, part in correcting.labels.items():
        assert part.num_classes == part.labels.max() + 1
        assert set(part.labels[part.kept]) <= set(range(part.num_classes))
        assert (part.weights[~part.kept] == 0).all() and (part.weights[part.kept] > 0).all()
        assert (part.kept <= correcting.clusters[view].kept).all()
        assert (startup.clusters[view].labels == correcting.clusters[view].labels).all()
    assert kept_in_all(correcting.labels).any()
    if chain == ("NPLP",):
        for view in features.views:
            assert (startup.labels[view].labels == startup.clusters[view].labels).all()


def test_nplp__splits_the_clusters_that_k_means_has_mixed():
    features, identities = make_features(noise=0.05, num_identities=12, images=8)
    labeler = PseudoLabeler(
        Euclidean(), FixedEps(1.0), KMeans(8, n_init=1), (NPLP(startup_rounds=0, share=0.5),)
    )
    labeling = labeler(features)

    def mixed(labels):
        return sum(len(set(identities[list(c)])) > 1 for c in partition(labels))

    before = labeling.clusters["global"]
    after = labeling.labels["global"]
    assert mixed(before.labels) >= 2
    assert mixed(after.labels) < mixed(before.labels)
    assert after.num_classes > before.num_classes


@pytest.mark.parametrize("clusterer", [DBSCAN(2), KMeans(4)])
def test_nplp__single_camera_is_refused_with_the_key_to_change(clusterer):
    features, _ = make_features(cameras=1)
    labeler = PseudoLabeler(Euclidean(), CrossCamera(), clusterer, (NPLP(),))
    advice = r"1 camera\(s\).*EPS_RULE CrossCamera.*set it to Rho, or set UDA\.CLUSTER\.EPS"
    with pytest.raises(UserError, match=advice):
        labeler.check_cameras(features.camera_ids)
    with pytest.raises(UserError, match=advice):
        labeler(features)
    replace(labeler, eps=FixedEps(0.5)).check_cameras(features.camera_ids)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("startup_rounds", -1), ("share", 0.0), ("share", 1.1), ("share", float("nan")),
        ("beta", 0.0), ("beta", 1.5), ("beta", float("nan")), ("min_samples", 0),
    ],
)  # fmt: skip
def test_nplp__refuses_what_cannot_be(field, value):
    with pytest.raises(UserError, match=rf"UDA\.NPLP\.{field.upper()} is {value}, but"):
        NPLP(**{field: value})


def test_nplp__defaults_are_the_papers():
    assert REFINERS.defaults("NPLP") == {
        "startup_rounds": 15, "share": 0.1, "beta": 0.5, "min_samples": 4,
    }  # fmt: skip
    assert NPLP.uses_distances and NPLP.uses_eps
