import numpy as np
import pytest
import sklearn.cluster

from fastreid_uda import compiled
from fastreid_uda.labeling.kmeans import choose_seeds, kmeans_memory, sklearn_kmeans
from tests.helpers import make_features


def noisy(seed=0, noise=1.0):
    """(480, 32) centred unit features whose identities overlap."""
    x = make_features(num_identities=60, noise=noise, seed=seed)[0].views["global"]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x - x.mean(axis=0)


def exact_distances(features):
    return lambda images: np.square(features[images, None] - features[None]).sum(axis=2)


def inertia(features, labels):
    clusters = [features[labels == k].astype(float) for k in np.unique(labels)]
    return sum(np.square(cluster - cluster.mean(axis=0)).sum() for cluster in clusters)


@pytest.fixture
def torch_kmeans():
    pytest.importorskip("torch")
    from fastreid_uda.labeling.kmeans_torch import torch_kmeans

    return torch_kmeans


def test_choose_seeds__are_those_of_sklearn_run_after_run():
    features = noisy()
    seeds = choose_seeds(exact_distances(features), 480, 50, num_runs=3, seed=7)
    random = np.random.RandomState(7)
    for of_run in seeds:
        expected = sklearn.cluster.kmeans_plusplus(features, 50, random_state=random)[1]
        np.testing.assert_array_equal(of_run, expected)


def test_choose_seeds__far_points_are_taken_first():
    features = np.repeat(np.float32([[0], [100], [1000]]), 5, axis=0)
    seeds = choose_seeds(exact_distances(features), 15, 3, num_runs=20, seed=0)
    assert (np.sort(features[seeds, 0], axis=1) == [0, 100, 1000]).all()


def test_choose_seeds__equal_images():
    seeds = choose_seeds(exact_distances(np.zeros((4, 2))), 4, 3, num_runs=2, seed=0)
    assert seeds.shape == (2, 3) and seeds.min() >= 0 and seeds.max() < 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("switch", ["1", "0"])
def test_sklearn_kmeans__labels_are_those_of_sklearn(monkeypatch, switch, seed):
    monkeypatch.setenv(compiled.SWITCH, switch)
    features = noisy()
    labels = sklearn_kmeans(features, 50, n_init=4, max_iter=300, seed=seed)
    kmeans = sklearn.cluster.KMeans(50, n_init=4, algorithm="lloyd", random_state=seed)
    np.testing.assert_array_equal(labels, kmeans.fit(features).labels_)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_torch_kmeans__inertia_is_not_above_that_of_sklearn(torch_kmeans, noise, seed):
    features = noisy(seed, noise)
    labels = torch_kmeans(features, 50, n_init=2, max_iter=300, seed=seed, device="cpu")
    kmeans = sklearn.cluster.KMeans(50, n_init=2, algorithm="lloyd", random_state=seed)
    assert inertia(features, labels) <= 1.005 * kmeans.fit(features).inertia_


def test_torch_kmeans__blocks_of_rows_make_no_difference(torch_kmeans, monkeypatch):
    features, options = noisy(), {"n_init": 1, "max_iter": 300, "seed": 0, "device": "cpu"}
    whole = torch_kmeans(features, 50, **options)
    monkeypatch.setattr("fastreid_uda.labeling.kmeans_torch._BLOCK_ROWS", 7)
    np.testing.assert_array_equal(torch_kmeans(features, 50, **options), whole)


@pytest.mark.parametrize("max_iter", [1, 2])
def test_torch_kmeans__stops_at_max_iter(torch_kmeans, max_iter):
    features, options = noisy(), {"n_init": 1, "max_iter": max_iter, "seed": 0}
    labels = torch_kmeans(features, 50, **options, device="cpu")
    np.testing.assert_array_equal(labels, sklearn_kmeans(features, 50, **options))


def test_torch_kmeans__empty_cluster_takes_the_farthest_image():
    torch = pytest.importorskip("torch")
    from fastreid_uda.labeling.kmeans_torch import _iterate

    rows = torch.tensor([[0.0], [1.0], [10.0], [14.0]])
    centroids = torch.tensor([[0.5], [11.0], [99.0]])
    labels, distances = _iterate(rows, rows[:, 0].square(), centroids, 300, 0.0)
    assert labels.tolist() == [0, 0, 1, 2]
    assert distances.tolist() == [0.25, 0.25, 0, 0]


@pytest.mark.gpu
def test_torch_kmeans__on_a_gpu(torch_kmeans):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    features, options = noisy(), {"n_init": 2, "max_iter": 300, "seed": 0}
    first, again = (torch_kmeans(features, 50, **options, device="cuda") for _ in "ab")
    np.testing.assert_array_equal(first, again)
    labels = sklearn_kmeans(features, 50, **options)
    assert inertia(features, first) <= 1.005 * inertia(features, labels)


@pytest.fixture
def faiss_kmeans():
    pytest.importorskip("faiss")
    from fastreid_uda.labeling.kmeans_faiss import faiss_kmeans

    return faiss_kmeans


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_faiss_kmeans__inertia_is_not_above_that_of_sklearn(faiss_kmeans, noise, seed):
    features = noisy(seed, noise)
    labels = faiss_kmeans(features, 50, n_init=2, max_iter=300, seed=seed)
    kmeans = sklearn.cluster.KMeans(50, n_init=2, algorithm="lloyd", random_state=seed)
    assert inertia(features, labels) <= 1.005 * kmeans.fit(features).inertia_


def test_faiss_kmeans__same_seed_same_labels(faiss_kmeans):
    features, options = noisy(noise=2.0), {"n_init": 3, "max_iter": 300, "seed": 5}
    first, again = (faiss_kmeans(features, 50, **options) for _ in "ab")
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.int64 and first.shape == (480,)


def test_faiss_kmeans__more_clusters_than_distinct_images(faiss_kmeans):
    features = np.repeat(np.float32([[0, 0], [5, 0], [9, 9]]), 4, axis=0)
    labels = faiss_kmeans(features, 5, n_init=1, max_iter=20, seed=0)
    assert labels.min() >= 0 and labels.max() < 5
    assert inertia(features, labels) == pytest.approx(0, abs=1e-6)


@pytest.mark.gpu
def test_faiss_kmeans__on_a_gpu(faiss_kmeans):
    import faiss

    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        pytest.skip("no GPU that faiss can use")
    features, options = noisy(), {"n_init": 2, "max_iter": 300, "seed": 0}
    found = faiss_kmeans(features, 50, **options, gpu=True)
    on_cpu = faiss_kmeans(features, 50, **options, gpu=False)
    assert inertia(features, found) == pytest.approx(inertia(features, on_cpu), rel=5e-3)


def test_kmeans_memory__grows_with_the_images_and_not_with_images_times_clusters():
    one, two = (kmeans_memory(n, 2048, 1500, 1) for n in (10**5, 2 * 10**5))
    assert two - one < 10**5 * 150
