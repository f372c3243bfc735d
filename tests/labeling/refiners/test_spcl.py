import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.dbscan import dbscan
from fastreid_uda.labeling.distances import Euclidean, Jaccard
from fastreid_uda.labeling.pairwise import SparseDistances
from fastreid_uda.labeling.refiners import REFINERS, RefinerInputs
from fastreid_uda.labeling.refiners.spcl import SpCL, reliable
from fastreid_uda.labeling.reliability import Reliability, reliability
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels


def published_rule(labels, tight, loose):
    """The first round of the authors' code on 1 - IoU, with outliers as clusters of their own."""
    n = len(labels)
    labels, tight, loose = (np.where(y == OUTLIER, 1000 + np.arange(n), y)
                            for y in (labels, tight, loose))  # fmt: skip
    together, others = labels[:, None] == labels, [y[:, None] == y for y in (tight, loose)]
    r_comp, r_indep = (1 - (together & y).sum(-1) / (together | y).sum(-1) for y in others)
    comp = {k: r_comp[labels == k].min() for k in set(labels)}
    indep = {k: r_indep[labels == k].min() for k in set(labels)}
    several = np.sort([indep[k] for k in sorted(set(labels)) if (labels == k).sum() > 1])
    limit = several[min(len(several) - 1, np.round(len(several) * 0.9).astype("int"))]
    return np.array([indep[k] <= limit and r_comp[i] <= comp[k] for i, k in enumerate(labels)])


def clustered_features(num_rows=300, seed=0):
    rng = np.random.default_rng(seed)
    people = rng.integers(num_rows // 10, size=num_rows)
    x = rng.normal(size=(num_rows // 10, 12))[people] + 0.55 * rng.normal(size=(num_rows, 12))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def inputs_of(features, distances, eps, labels=None):
    if labels is None:
        labels = dbscan(distances.within(eps), eps, 4)
    views = FeatureSet({"global": features})
    clusters = {"global": make_pseudo_labels(labels, features)}
    return RefinerInputs(views, views, {"global": distances}, clusters, {"global": eps}, 0, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gap", [0.02, 0.08])
def test_spcl__keeps_the_images_of_the_published_rule(seed, gap):
    features, eps = clustered_features(seed=seed), 0.5
    distances = Jaccard(k1=12, k2=3).measure(features)
    inputs = inputs_of(features, distances, eps)
    refined = SpCL(gap=gap).refine(inputs)["global"]
    at = [dbscan(distances.within(radius), radius, 4) for radius in (eps - gap, eps + gap)]
    raw = inputs.clusters["global"]
    expected = published_rule(raw.labels, *at) & raw.kept
    np.testing.assert_array_equal(refined.kept, expected)
    assert 0 < expected.sum() < raw.kept.sum()
    assert sorted(set(refined.labels) - {OUTLIER}) == list(range(refined.num_classes))


def test_reliable__a_share_of_the_clusters_passes():
    # Four clusters of two images, of independence 1, 0.8, 0.5 and 0.2, and a cluster of one.
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, OUTLIER])
    scores = Reliability(
        np.array([1, 1, 0.8, 0.7, 0.5, 0.5, 0.2, 0.2, 0.9, 1]), np.ones(len(labels))
    )
    for share, clusters in ((0, 1), (0.2, 2), (0.5, 3), (0.75, 4), (1, 4)):
        keep = reliable(labels, scores, share, 1)
        assert set(labels[keep]) - {4} == set(range(clusters))
        assert keep[8] == (clusters > 1) and not keep[9]


def test_reliable__images_as_compact_as_the_best_of_their_cluster():
    labels = np.array([0, 0, 0, 1, 1])
    scores = Reliability(np.ones(5), np.array([0.5, 0.5, 0.25, 1, 0.1]))
    assert reliable(labels, scores, 1, 1).tolist() == [True, True, False, True, False]
    assert reliable(labels, scores, 1, 0.5).tolist() == [True, True, True, True, False]
    assert reliable(labels, scores, 1, 0).all()


def test_reliable__without_clusters_of_several_images():
    scores = Reliability(np.ones(3), np.ones(3))
    assert reliable(np.array([0, OUTLIER, 1]), scores, 0.9, 1).tolist() == [True, False, True]
    assert not reliable(np.full(3, OUTLIER), scores, 0.9, 1).any()


def test_spcl__clusters_that_do_not_depend_on_the_radius_stay():
    features = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    inputs = inputs_of(features, Euclidean().measure(features), 0.5)
    refined = SpCL().refine(inputs)["global"]
    assert refined.labels.tolist() == inputs.clusters["global"].labels.tolist()


def test_spcl__reads_the_clusters_that_it_is_given():
    # k-means with two people in one cluster: at every radius DBSCAN sees two.
    features = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    labels = np.repeat([0, 0, 1, 2], 5)
    inputs = inputs_of(features, Euclidean().measure(features), 0.5, labels)
    scores = SpCL().measure(labels, inputs.distances["global"], 0.5)
    assert scores.independence.tolist() == scores.compactness.tolist() == [0.5] * 10 + [1] * 10
    kept = SpCL(independence=0.1).refine(inputs)["global"].kept
    assert kept.tolist() == [False] * 10 + [True] * 10


@pytest.mark.parametrize(("eps", "end"), [(0.02, "0"), (0.01, "0"), (0.985, "1.0, where")])
def test_spcl__refuses_a_gap_that_leads_out_of_the_distances(eps, end):
    matrix = SparseDistances(csr_matrix((np.zeros(3, np.float32), (range(3), range(3)))))
    features = np.eye(3, dtype=np.float32)
    with pytest.raises(UserError, match=rf"UDA.SPCL.GAP is 0.02, but eps, {eps}.* {end}"):
        SpCL().refine(inputs_of(features, matrix, eps))


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("GAP", {"gap": 0.0}),
        ("GAP", {"gap": np.nan}),
        ("INDEPENDENCE", {"independence": 1.1}),
        ("COMPACTNESS", {"compactness": -0.1}),
        ("MIN_SAMPLES", {"min_samples": 0}),
    ],
)
def test_spcl__refuses_arguments_out_of_range(key, arguments):
    with pytest.raises(UserError, match=rf"UDA\.SPCL\.{key} is "):
        SpCL(**arguments)


def test_spcl__defaults_and_needs():
    assert REFINERS.defaults("SpCL") == {
        "gap": 0.02, "independence": 0.9, "compactness": 1.0, "min_samples": 4,
    }  # fmt: skip
    assert SpCL.uses_distances and SpCL.uses_eps


def test_spcl__scores_are_those_of_the_three_radii():
    features = clustered_features()
    distances = Jaccard(k1=12, k2=3).measure(features)
    labels, tight, loose = (dbscan(distances.within(r), r, 4) for r in (0.5, 0.44, 0.56))
    expected = reliability(labels, tight, loose)
    scores = SpCL(gap=0.06).measure(labels, distances, 0.5)
    np.testing.assert_array_equal(scores.independence, expected.independence)
    np.testing.assert_array_equal(scores.compactness, expected.compactness)
