"""Promises that every registered clusterer keeps."""

import numpy as np
import pytest

from fastreid_uda.labeling.clustering import CLUSTERERS
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.types import OUTLIER
from tests.helpers import make_features

VARIANTS = {
    "DBSCAN": {"": {"min_samples": 2}},
    "HDBSCAN": {"": {"min_samples": 2, "min_cluster_size": 5}},
    "KMeans": {
        "sklearn": {"num_clusters": 12, "backend": "sklearn"},
        "torch": {"num_clusters": 12, "backend": "torch"},
    },
}


@pytest.fixture(
    params=[(name, variant) for name in CLUSTERERS for variant in VARIANTS.get(name, {"": {}})],
    ids="-".join,
)
def clusterer(request):
    name, variant = request.param
    if variant:
        pytest.importorskip(variant)
    return CLUSTERERS.build(name, **VARIANTS.get(name, {}).get(variant, {}))


@pytest.fixture
def features():
    x = make_features(noise=0.1)[0].views["global"]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cluster(clusterer, features, seed=0):
    distances = Jaccard(k1=8, k2=2).measure(features) if clusterer.uses_distances else None
    return clusterer.cluster(features, distances, 0.6 if distances else None, seed)


def test_clusterer__labels_every_image_from_zero_without_gaps(clusterer, features):
    labels = cluster(clusterer, features)
    assert labels.dtype == np.int64 and labels.shape == (len(features),)
    used = set(labels.tolist()) - {OUTLIER}
    assert used == set(range(len(used))) and len(used) >= 2


def test_clusterer__finds_clusters_that_lie_apart(clusterer, features):
    identities = make_features(noise=0.1)[1]
    labels = cluster(clusterer, features)
    pairs = {(a, b) for a, b in zip(labels.tolist(), identities.tolist(), strict=True)}
    assert len(pairs) == 12


def test_clusterer__repeats_with_its_seed_and_leaves_the_global_generator_alone(
    clusterer, features
):
    state = np.random.get_state()[1].copy()
    first, second = cluster(clusterer, features, 3), cluster(clusterer, features, 3)
    assert (first == second).all()
    assert (np.random.get_state()[1] == state).all()


def test_clusterer__does_not_change_its_input(clusterer, features):
    before = features.copy()
    cluster(clusterer, features)
    assert (features == before).all()
