import numpy as np
import pytest
import sklearn.cluster

from fastreid_uda import compiled
from fastreid_uda.labeling import lloyd as module
from fastreid_uda.labeling.lloyd import lloyd, products
from fastreid_uda.labeling.row_distances import squared_norms
from tests.labeling.test_kmeans import noisy


@pytest.fixture(params=["1", "0"], ids=["compiled", "numpy"], autouse=True)
def switch(request, monkeypatch):
    monkeypatch.setenv(compiled.SWITCH, request.param)


def naive_lloyd(x, centroids, max_iter):
    """The textbook in float64: every image with every centroid, every time."""
    x, centroids, before = x.astype(float), centroids.astype(float), None
    for _ in range(max_iter):
        distances = np.square(x[:, None] - centroids).sum(axis=2)
        labels = distances.argmin(axis=1)
        if before is not None and (labels == before).all():
            return labels, distances.min(axis=1).sum()
        before = labels
        centroids = np.stack([x[labels == k].mean(axis=0) for k in range(len(centroids))])
    distances = np.square(x[:, None] - centroids).sum(axis=2)
    return distances.argmin(axis=1), distances.min(axis=1).sum()


def run(x, centroids, max_iter=300):
    return lloyd(x, squared_norms(x), centroids, max_iter)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_clusters", [1, 2, 12, 60])
@pytest.mark.parametrize("block", [64, 1 << 21])
def test_lloyd__equals_the_textbook(monkeypatch, seed, num_clusters, block):
    monkeypatch.setattr(module, "_BLOCK_ENTRIES", block)
    x = noisy(seed, noise=2.0)
    start = x[np.random.default_rng(seed).choice(len(x), num_clusters, replace=False)]
    labels, inertia = naive_lloyd(x, start, 300)
    got = run(x, start)
    np.testing.assert_array_equal(got.labels, labels)
    assert got.inertia == pytest.approx(inertia, rel=1e-5)


@pytest.mark.parametrize("max_iter", [1, 2, 3, 5])
def test_lloyd__stops_at_max_iter(max_iter):
    x = noisy(noise=2.0)
    np.testing.assert_array_equal(
        run(x, x[:40], max_iter).labels, naive_lloyd(x, x[:40], max_iter)[0]
    )


@pytest.mark.parametrize("seed", range(4))
def test_nearest__is_right_whichever_centroids_move(seed):
    rng = np.random.default_rng(seed)
    x = noisy(seed)
    nearest = module._Nearest(x, x[:50])
    nearest.update(np.arange(50))
    for number in (3, 20, 49, 1, 50, 7):
        moved = np.sort(rng.choice(50, number, replace=False))
        nearest.centroids[moved] = x[rng.choice(len(x), number)] + 0.05 * rng.normal(
            size=(number, x.shape[1])
        )
        nearest.update(moved)
        distances = np.square(x[:, None] - nearest.centroids).sum(axis=2)
        np.testing.assert_array_equal(nearest.labels, distances.argmin(axis=1))
        np.testing.assert_allclose(
            nearest.distances(squared_norms(x)), distances.min(axis=1), atol=1e-5
        )


def test_lloyd__empty_cluster_takes_the_farthest_image():
    x = np.float32([[0], [1], [10], [14]])
    got = run(x, np.float32([[0.5], [11], [99]]))
    assert got.labels.tolist() == [0, 0, 1, 2]
    assert got.inertia == pytest.approx(0.5)


def test_lloyd__fewer_distinct_images_than_clusters():
    x = np.float32([[0], [0], [0], [5], [5]])
    got = run(x, np.float32([[0], [0], [5], [5]]))
    assert (
        got.inertia == 0 and len(np.unique(got.labels[:3])) == len(np.unique(got.labels[3:])) == 1
    )


@pytest.mark.parametrize("seed", range(3))
def test_lloyd__empty_clusters_end_as_well_as_those_of_sklearn(seed):
    x = noisy(seed)
    start = x[:50].copy()
    start[10:20] = 3 + start[10:20]  # far from all images
    kmeans = sklearn.cluster.KMeans(50, init=start, n_init=1, algorithm="lloyd").fit(x)
    assert run(x, start).inertia <= 1.005 * kmeans.inertia_


def test_lloyd__same_bits_with_any_number_of_threads(monkeypatch):
    x, results = noisy(noise=2.0), []
    for threads in "13":
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        results.append(run(x, x[:40]))
    np.testing.assert_array_equal(results[0].labels, results[1].labels)
    assert results[0].inertia == results[1].inertia


@pytest.mark.parametrize("number", [1, 3, 4, 9, 40])
@pytest.mark.parametrize("rows", [1, 6, 1030])
def test_products__equal_naive_loops(number, rows):
    rng = np.random.default_rng(number)
    x, chosen = (rng.normal(size=(n, 37)).astype(np.float32) for n in (rows, number))
    got = products(x, chosen)
    assert got.flags.c_contiguous and got.dtype == np.float32
    expected = [[float(a.astype(float) @ b) for b in x] for a in chosen]
    np.testing.assert_allclose(got, expected, atol=1e-5)
