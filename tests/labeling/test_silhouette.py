import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import silhouette_samples

from fastreid_uda.labeling.blockwise import BlockwiseDistances
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.pairwise import SparseDistances
from fastreid_uda.labeling.silhouette import mean_silhouettes, silhouettes
from fastreid_uda.labeling.types import OUTLIER

N = 60


def features(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6, 8))[rng.integers(6, size=N)] + 0.6 * rng.normal(size=(N, 8))
    x[7] = x[31]
    return normalize_rows(x.astype(np.float32))


def random_labels(seed, clusters):
    """Outliers, a cluster of one image, and clusters that have nothing to do with distances."""
    labels = np.random.default_rng(seed).integers(OUTLIER, clusters, size=N)
    labels[0] = clusters
    return labels


def sparse(fill=1.0):
    """Stored zeros off the diagonal, and rows without any other pair."""
    rng = np.random.default_rng(3)
    full = np.triu(np.where(rng.random((N, N)) < 0.15, fill * rng.random((N, N)), fill), 1)
    full[4, 9] = 0
    full[:, 20] = full[20] = fill
    full = np.triu(full, 1) + np.triu(full, 1).T
    places = np.nonzero((full < fill) | np.eye(N, dtype=bool))
    matrix = csr_matrix((full[places].astype(np.float32), places), shape=(N, N))
    return SparseDistances(matrix, fill)


DISTANCES = {
    "jaccard": lambda: Jaccard(k1=8, k2=3).measure(features()),
    "sparse": sparse,
    "sparse-fill-2": lambda: sparse(2.0),
    "cosine": lambda: BlockwiseDistances(features(), "cosine", block_rows=7),
    "euclidean": lambda: BlockwiseDistances(features(), "euclidean"),
}


def dense(distances):
    return np.vstack([block for _, _, block in distances.row_blocks()]).astype(np.float64)


@pytest.mark.parametrize("name", DISTANCES)
def test_silhouettes__equal_scikit_learns_on_the_dense_matrix(name):
    distances = DISTANCES[name]()
    labels = np.stack([random_labels(seed, clusters) for seed, clusters in enumerate((2, 5, 20))])
    found, full = silhouettes(distances, labels), dense(distances)
    for row, values in zip(labels, found, strict=True):
        kept = row != OUTLIER
        assert 0 < kept.sum() < N and (np.bincount(row[kept]) == 1).any()
        expected = silhouette_samples(full[np.ix_(kept, kept)], row[kept], metric="precomputed")
        np.testing.assert_allclose(values[kept], expected, atol=2e-6)
        assert (values[~kept] == 0).all()


@pytest.mark.parametrize("name", ["jaccard", "cosine"])
def test_mean_silhouettes__are_of_the_images_in_clusters(name):
    distances, labels = DISTANCES[name](), random_labels(0, 4)[None]
    values = silhouettes(distances, labels)[0, labels[0] != OUTLIER]
    assert mean_silhouettes(distances, labels) == [pytest.approx(values.mean())]


@pytest.mark.parametrize("name", ["jaccard", "cosine"])
def test_silhouettes__below_two_clusters_are_0(name):
    nobody, one, gap = np.full(N, OUTLIER), np.zeros(N, int), np.full(N, 5)
    assert mean_silhouettes(DISTANCES[name](), np.stack([nobody, one, gap])) == [0, 0, 0]


@pytest.mark.parametrize("name", ["jaccard", "cosine"])
def test_silhouettes__do_not_depend_on_the_numbers_of_the_clusters(name):
    labels = random_labels(1, 5)
    renamed = np.where(labels == OUTLIER, OUTLIER, 3 * labels + 2)
    both = silhouettes(DISTANCES[name](), np.stack([labels, renamed]))
    np.testing.assert_array_equal(both[0], both[1])


def test_silhouettes__golden_toy():
    # Positions 0, 1 | 4, 6 | 20, which is in no cluster: a = 1, 1, 2, 2; b = 5, 4, 3.5, 5.5.
    x = np.array([[0], [1], [4], [6], [20]], dtype=np.float32)
    labels = np.array([[0, 0, 1, 1, OUTLIER]])
    expected = [[4 / 5, 3 / 4, 1.5 / 3.5, 3.5 / 5.5, 0]]
    np.testing.assert_allclose(
        silhouettes(BlockwiseDistances(x, "euclidean"), labels), expected, rtol=1e-6
    )


def test_silhouettes__of_identical_images_are_0():
    same = BlockwiseDistances(np.ones((6, 3), np.float32), "euclidean")
    assert silhouettes(same, np.array([[0, 0, 0, 1, 1, 1]])).tolist() == [[0] * 6]
