import numpy as np
import pytest
import sklearn.cluster

from fastreid_uda.labeling.kmeans import choose_seeds, sklearn_kmeans
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
def test_sklearn_kmeans__labels_are_those_of_sklearn(seed):
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
