import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from fastreid_uda.labeling.distances import Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.label_silhouettes import (
    OF_CENTROIDS,
    OF_PAIRS,
    LabelSilhouettes,
    centroid_silhouettes,
    label_silhouettes,
)
from fastreid_uda.labeling.silhouette import _Membership
from fastreid_uda.labeling.types import OUTLIER
from tests.labeling.test_silhouette import N, features


def random_labels(seed=0, clusters=5):
    labels = np.random.default_rng(seed).integers(OUTLIER, clusters, size=N)
    labels[0] = clusters
    return labels


def dense(distances):
    full = np.vstack([block for _, _, block in distances.row_blocks()]).astype(np.float64)
    np.fill_diagonal(full, 0)
    return full


def expected(full, labels):
    kept = labels != OUTLIER
    values = np.full(N, np.nan)
    part = full[np.ix_(kept, kept)]
    values[kept] = silhouette_samples(part, labels[kept], metric="precomputed")
    return values


@pytest.mark.parametrize(
    "distance,eps", [(Jaccard(k1=8, k2=3), 0.6), (Cosine(), 0.3), (Euclidean(), 0.9)]
)
def test_pairs__are_those_within_eps_and_all_others_equal(distance, eps):
    found = distance.measure(features())
    labels = random_labels()
    full = dense(found)
    full[full > np.float32(eps)] = 1.0 if isinstance(distance, Jaccard) else eps
    values = label_silhouettes(features(), found, eps, labels, labels)
    assert values.kind == OF_PAIRS
    np.testing.assert_allclose(values.labels, expected(full, labels), atol=3e-6)


def test_pairs__do_not_depend_on_where_the_stored_graph_ends():
    x, eps, labels = features(), 0.6, random_labels()
    whole, short = (Jaccard(8, 3).measure(x, limit=limit) for limit in (None, eps + 2e-6))
    one, other = (label_silhouettes(x, d, eps, labels, labels) for d in (whole, short))
    np.testing.assert_array_equal(one.labels, other.labels)


def test_pairs__without_eps_all_of_a_sparse_graph_count():
    x, labels = features(), random_labels()
    distances = Jaccard(8, 3).measure(x)
    values = label_silhouettes(x, distances, None, labels, labels)
    np.testing.assert_allclose(values.labels, expected(dense(distances), labels), atol=3e-6)


@pytest.mark.parametrize("distances", [None, Euclidean().measure(features())])
def test_centroids__where_there_is_no_graph(distances):
    values = label_silhouettes(features(), distances, None, random_labels(), random_labels())
    assert values.kind == OF_CENTROIDS


def test_labels_and_clusters__are_measured_by_themselves():
    x, clusters = features(), random_labels()
    labels = np.where(np.arange(N) % 3 == 0, OUTLIER, clusters)
    distances = Jaccard(8, 3).measure(x)
    both = label_silhouettes(x, distances, 0.6, clusters, labels)
    full = dense(distances)
    full[full > np.float32(0.6)] = 1
    np.testing.assert_allclose(both.clusters, expected(full, clusters), atol=3e-6)
    np.testing.assert_allclose(both.labels, expected(full, labels), atol=3e-6)
    dropped = (labels == OUTLIER) & (clusters != OUTLIER)
    np.testing.assert_array_equal(both.of_images[dropped], both.clusters[dropped])
    kept = labels != OUTLIER
    np.testing.assert_array_equal(both.of_images[kept], both.labels[kept])
    assert np.isnan(both.of_images[clusters == OUTLIER]).all()


def loop_over_centroids(x, labels):
    values = np.zeros(N)
    used = sorted(set(labels.tolist()) - {OUTLIER})
    means = {k: x[labels == k].mean(axis=0) for k in used}
    for i in np.flatnonzero(labels != OUTLIER):
        if (labels == labels[i]).sum() == 1:
            continue
        to = {k: np.linalg.norm(x[i] - means[k]) for k in used}
        a, b = to[labels[i]], min(to[k] for k in used if k != labels[i])
        values[i] = (b - a) / max(a, b)
    return values


@pytest.mark.parametrize("shift", [0, 50])
def test_centroid_silhouettes__equal_a_loop(shift, monkeypatch):
    monkeypatch.setattr("fastreid_uda.labeling.label_silhouettes._ROWS", 7)
    x = features() + np.float32(shift)
    labels = random_labels()
    labels[labels == 3] = 17  # numbers without images
    expected = loop_over_centroids(x.astype(np.float64), labels)
    np.testing.assert_allclose(centroid_silhouettes(x, labels), expected, atol=1e-4)


def test_centroid_silhouettes__below_two_clusters_are_0():
    for labels in (np.full(N, OUTLIER), np.zeros(N, int), np.full(N, 5)):
        assert not centroid_silhouettes(features(), labels).any()


def test_stored__part_by_part_as_at_once(monkeypatch):
    stored, labels = Jaccard(8, 3).measure(features()).below(1.0), random_labels()
    at_once = _Membership(labels).of_stored(stored, 1.0)
    monkeypatch.setattr("fastreid_uda.labeling.silhouette._ENTRIES_AT_A_TIME", 100)
    np.testing.assert_array_equal(_Membership(labels).of_stored(stored, 1.0), at_once)


def test_expand__images_outside_have_none():
    rows = np.array([True, False, True])
    whole = LabelSilhouettes(OF_PAIRS, np.array([0.5, 0.25]), np.array([np.nan, 1])).expand(rows)
    np.testing.assert_array_equal(whole.clusters, [0.5, np.nan, 0.25])
    np.testing.assert_array_equal(whole.labels, [np.nan, np.nan, 1])
