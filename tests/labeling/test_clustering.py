import logging
import sys
import warnings

import numpy as np
import pytest
import sklearn.cluster
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.blockwise import BlockwiseDistances
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.clustering import CLUSTERERS, DBSCAN, HDBSCAN, KMeans
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.pairwise import SparseDistances
from fastreid_uda.labeling.types import OUTLIER


def naive_dbscan(full, eps, min_samples):
    """Ester et al.: grow a cluster from every core point that has none yet, in order."""
    near = [np.flatnonzero(row <= np.float32(eps)) for row in full]
    labels, number = np.full(len(full), OUTLIER), 0
    for seed in range(len(full)):
        if labels[seed] != OUTLIER or len(near[seed]) < min_samples:
            continue
        todo = [seed]
        while todo:
            n = todo.pop()
            if labels[n] == OUTLIER:
                labels[n] = number
                todo += list(near[n]) if len(near[n]) >= min_samples else []
        number += 1
    return labels


def same_partition(first, second):
    """Equal up to the names of the classes; outliers are outliers in both."""
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    one_to_one = len(pairs) == len(set(first.tolist())) == len(set(second.tolist()))
    return one_to_one and all((a == OUTLIER) == (b == OUTLIER) for a, b in pairs)


def clustered(num_rows, dimension=8, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    identities = rng.integers(0, max(1, num_rows // 10), num_rows)
    features = rng.normal(size=(num_rows, dimension))[identities]
    features = features + noise * rng.normal(size=features.shape)
    return normalize_rows(features.astype(np.float32))


def dense(distances):
    return np.vstack([block for _, _, block in distances.row_blocks()])


def line(*positions):
    features = np.array(positions, dtype=np.float32)[:, None]
    return features, BlockwiseDistances(features, "euclidean")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.3, 0.8])
def test_dbscan__equals_naive_loops_and_sklearn_on_the_dense_matrix(seed, noise):
    features = clustered(150, seed=seed, noise=noise)
    for distances, eps in (
        (BlockwiseDistances(features, "cosine"), 0.2),
        (BlockwiseDistances(features, "euclidean"), 0.6),
        (Jaccard(k1=10, k2=3).measure(features), 0.55),
    ):
        labels = DBSCAN().cluster(features, distances, eps, seed=0)
        full = dense(distances)
        by_sklearn = sklearn.cluster.DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit(full)
        np.testing.assert_array_equal(labels, by_sklearn.labels_)
        np.testing.assert_array_equal(labels, naive_dbscan(full, eps, 4))
        assert labels.dtype == np.int64 and len(np.unique(labels)) > 3


def test_dbscan__toy():
    features, distances = line(0, 0.1, 0.2, 0.3, 9, 5, 5.1, 5.2, 5.3)
    labels = DBSCAN().cluster(features, distances, 0.35, seed=0)
    assert labels.tolist() == [0, 0, 0, 0, OUTLIER, 1, 1, 1, 1]


def test_dbscan__duplicates_count_as_neighbors():
    features, distances = line(0, 7, 0, 0, 0)
    labels = DBSCAN().cluster(features, distances, 0.1, seed=0)
    assert labels.tolist() == [0, OUTLIER, 0, 0, 0]


def test_dbscan__stored_zeros_of_a_sparse_matrix_count_as_neighbors():
    i, j = np.indices((4, 4)).reshape(2, -1)
    zeros = SparseDistances(csr_matrix((np.zeros(16, np.float32), (i, j)), shape=(4, 4)))
    assert DBSCAN().cluster(np.zeros((4, 1)), zeros, 0.5, seed=0).tolist() == [0, 0, 0, 0]


def test_dbscan__the_image_itself_is_one_of_min_samples():
    features, distances = line(0, 0.1, 0.2)
    assert DBSCAN(min_samples=3).cluster(features, distances, 0.25, 0).tolist() == [0, 0, 0]
    assert DBSCAN(min_samples=4).cluster(features, distances, 0.25, 0).tolist() == [-1, -1, -1]


def test_dbscan__cluster_may_be_smaller_than_min_samples():
    # The cores are at 0 and 1.8; the image at 0.9 is near to both and goes to the first.
    features, distances = line(-0.6, -0.5, 0, 0.9, 1.8, 2.5, 2.6)
    labels = DBSCAN().cluster(features, distances, 1.0, seed=0)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_dbscan__all_noise():
    features, distances = line(0, 10, 20)
    assert DBSCAN().cluster(features, distances, 1.0, seed=0).tolist() == [-1, -1, -1]


def test_dbscan__distance_equal_to_eps_is_a_neighbor():
    matrix = csr_matrix((np.float32([0, 0.6, 0.6, 0]), ([0, 0, 1, 1], [0, 1, 0, 1])))
    labels = DBSCAN(min_samples=2).cluster(np.zeros((2, 1)), SparseDistances(matrix), 0.6, 0)
    assert labels.tolist() == [0, 0]


@pytest.mark.parametrize("num_rows", [1, 5, 25, 26, 29, 30])
def test_dbscan__small_sets(num_rows):
    features = clustered(num_rows)
    labels = DBSCAN().cluster(features, Jaccard().measure(features), 0.5, seed=0)
    assert labels.shape == (num_rows,)


def test_dbscan__no_warnings():
    features = clustered(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DBSCAN().cluster(features, Jaccard(k1=8).measure(features), 0.5, seed=0)


@pytest.mark.parametrize("eps", [0.0, -1.0, np.nan, np.inf])
def test_dbscan__refuses_eps(eps):
    features, distances = line(0, 1)
    with pytest.raises(UserError, match=r"UDA.CLUSTER.EPS"):
        DBSCAN().cluster(features, distances, eps, seed=0)


def test_dbscan__needs_distances():
    with pytest.raises(ValueError, match="needs distances"):
        DBSCAN().cluster(np.zeros((2, 1)), None, None, seed=0)


@pytest.fixture(params=["sklearn", "torch", "faiss"])
def backend(request):
    pytest.importorskip(request.param)
    return request.param


def test_kmeans__separate_groups(backend):
    features, _ = line(0, 0.1, 5, 5.1, 9, 9.1)
    labels = KMeans(num_clusters=3, backend=backend).cluster(features, None, None, seed=0)
    assert same_partition(labels, np.array([0, 0, 1, 1, 2, 2]))
    assert labels.dtype == np.int64


def test_kmeans__every_image_is_with_its_nearest_mean(backend):
    features = clustered(120)
    labels = KMeans(num_clusters=12, backend=backend).cluster(features, None, None, seed=0)
    means = np.array([features[labels == c].mean(axis=0) for c in range(12)])
    for n in range(120):
        assert labels[n] == np.argmin(((features[n] - means) ** 2).sum(axis=1))


@pytest.mark.parametrize(("num_images", "clusters"), [(15, 1), (29, 1), (30, 2), (44, 2)])
def test_kmeans__images_per_cluster(num_images, clusters):
    features = clustered(num_images)
    kmeans = KMeans(num_clusters=7, images_per_cluster=15)
    assert len(np.unique(kmeans.cluster(features, None, None, seed=0))) == clusters


def test_kmeans__more_clusters_than_images():
    with pytest.raises(UserError, match=r"UDA.CLUSTER.KMEANS.NUM_CLUSTERS is 500.* 30 target"):
        KMeans().cluster(clustered(30), None, None, seed=0)
    with pytest.raises(UserError, match=r"IMAGES_PER_CLUSTER is 15.* 14 target"):
        KMeans(images_per_cluster=15).cluster(clustered(14), None, None, seed=0)


@pytest.mark.parametrize("num_clusters", [1, 8])
def test_kmeans__one_cluster_and_as_many_as_images(backend, num_clusters):
    features, _ = line(0, 1, 3, 6, 10, 15, 21, 28)
    labels = KMeans(num_clusters, backend=backend).cluster(features, None, None, seed=0)
    assert sorted(labels.tolist()) == (list(range(8)) if num_clusters == 8 else [0] * 8)


def test_kmeans__duplicate_centroids_are_renumbered_with_a_warning(caplog, backend):
    features, _ = line(0, 0, 3, 3, 8, 8)
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = KMeans(num_clusters=5, backend=backend).cluster(features, None, None, seed=0)
    assert sorted(set(labels.tolist())) == [0, 1, 2]
    assert "only 3 of 5 clusters" in caplog.text


def test_kmeans__quiet_without_duplicates(caplog):
    KMeans(num_clusters=3).cluster(clustered(30), None, None, seed=0)
    assert caplog.text == ""


def test_kmeans__same_seed_same_labels(backend):
    kmeans = KMeans(num_clusters=9, n_init=1, backend=backend)
    features = clustered(100, noise=1.0)
    first, again = (kmeans.cluster(features, None, None, 3) for _ in "ab")
    np.testing.assert_array_equal(first, again)


def test_kmeans__unknown_backend():
    with pytest.raises(UserError, match=r"KMEANS.BACKEND is 'cuml', but .*: faiss, sklearn, torch"):
        KMeans(backend="cuml")


def test_kmeans__missing_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"KMEANS.BACKEND is 'torch'.*install torch or set it to"):
        KMeans(num_clusters=3, backend="torch").cluster(clustered(30), None, None, seed=0)


def test_kmeans__missing_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        UserError, match=r"KMEANS.BACKEND is 'faiss'.*faiss-cpu or faiss-gpu or set"
    ):
        KMeans(num_clusters=3, backend="faiss").cluster(clustered(30), None, None, seed=0)


def test_kmeans__tells_its_memory():
    # The centred copy alone, and no more than a few times as much.
    assert 4 * 12936 * 2048 < KMeans(500, n_init=1).memory_needed(12936, 2048) < 8 * 12936 * 2048
    by_size = KMeans(images_per_cluster=15).memory_needed(30000, 512)
    assert by_size == KMeans(num_clusters=2000).memory_needed(30000, 512)


@pytest.mark.parametrize(
    ("cls", "arguments", "key"),
    [
        (DBSCAN, {"min_samples": 0}, "DBSCAN.MIN_SAMPLES"),
        (KMeans, {"num_clusters": 0}, "KMEANS.NUM_CLUSTERS"),
        (KMeans, {"images_per_cluster": -1}, "KMEANS.IMAGES_PER_CLUSTER"),
        (KMeans, {"n_init": 0}, "KMEANS.N_INIT"),
        (KMeans, {"max_iter": 0}, "KMEANS.MAX_ITER"),
    ],
)
def test_clusterers__refuse_arguments_out_of_range(cls, arguments, key):
    with pytest.raises(UserError, match=rf"UDA.CLUSTER.{key} is"):
        cls(**arguments)


def test_clusterers__known_names():
    assert list(CLUSTERERS) == ["DBSCAN", "HDBSCAN", "KMeans"]
    assert DBSCAN.uses_distances and not KMeans.uses_distances
    assert CLUSTERERS.defaults("DBSCAN") == {"min_samples": 4}


@pytest.mark.parametrize(
    "clusterer",
    [DBSCAN(), HDBSCAN(max_distance=9.0), KMeans(num_clusters=10)],
    ids=["DBSCAN", "HDBSCAN", "KMeans"],
)
def test_clusterers__follow_a_permutation_and_leave_inputs_unchanged(clusterer):
    # Ten tight groups far apart: no border images, one optimum.
    rng = np.random.default_rng(0)
    features = np.repeat(10 * rng.normal(size=(10, 8)), 8, axis=0)
    features = (features + 0.01 * rng.normal(size=features.shape)).astype(np.float32)
    before, order = features.copy(), rng.permutation(80)

    def cluster(x):
        return clusterer.cluster(x, BlockwiseDistances(x, "euclidean"), 1.0, seed=0)

    assert same_partition(cluster(features)[order], cluster(features[order]))
    assert (features == before).all()
