"""Our distances and clusters beside those of fast-reid's own function."""

import numpy as np
import pytest
import sklearn.cluster

from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.clustering import DBSCAN
from fastreid_uda.labeling.distances import Jaccard

torch = pytest.importorskip("torch")
pytest.importorskip("fastreid")
pytest.importorskip("faiss")

EPS = 0.6  # not one of the values at which Jaccard distances pile up
CASES = [
    *((n, d, k1, k2) for n, d in ((50, 8), (201, 256)) for k1 in (6, 20, 30) for k2 in (1, 6)),
    (333, 32, 20, 1),
    (333, 32, 30, 6),
    (800, 64, 20, 6),
]


@pytest.fixture(autouse=True)
def one_torch_thread():
    """fast-reid makes one tiny torch call per image; two threads on a busy machine crawl."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def features_of(num_rows, dimension, is_clustered):
    rng = np.random.default_rng(num_rows + dimension)
    features = rng.normal(size=(num_rows, dimension))
    if is_clustered:
        identities = rng.integers(0, num_rows // 10, num_rows)
        features = features * 0.7 + rng.normal(size=(num_rows // 10, dimension))[identities]
    return normalize_rows(features.astype(np.float32))


def fastreid_distances(features, k1, k2):
    from fastreid.utils.compute_dist import compute_jaccard_distance

    return compute_jaccard_distance(torch.from_numpy(features), k1, k2, search_option=3)


@pytest.mark.parametrize("is_clustered", [True, False], ids=["clustered", "unclustered"])
@pytest.mark.parametrize(("num_rows", "dimension", "k1", "k2"), CASES)
def test_jaccard_and_dbscan__equal_fastreid(num_rows, dimension, k1, k2, is_clustered):
    features = features_of(num_rows, dimension, is_clustered)
    expected = fastreid_distances(features, k1, k2)

    distances = Jaccard(k1, k2).measure(features)
    got = np.vstack([block for _, _, block in distances.row_blocks()])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_array_equal(got < 1, expected < 1)

    labels = DBSCAN().cluster(features, distances, EPS, seed=0)
    theirs = sklearn.cluster.DBSCAN(eps=EPS, min_samples=4, metric="precomputed").fit(expected)
    assert distances.count_near(EPS) == 0
    np.testing.assert_array_equal(labels, theirs.labels_)
