import numpy as np
import pytest
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from fastreid_uda import compiled
from fastreid_uda.labeling.dbscan import dbscan
from fastreid_uda.labeling.types import OUTLIER


@pytest.fixture(params=["1", "0"], ids=["compiled", "scipy"], autouse=True)
def path(request, monkeypatch):
    monkeypatch.setenv(compiled.SWITCH, request.param)
    if request.param == "1" and not compiled.available():
        pytest.skip("without Numba")


def graph_of(full):
    """The entries below 1 of a dense symmetric array, zeros and the diagonal stored."""
    i, j = np.nonzero(full < 1)
    return csr_matrix((full[i, j], (i, j)), shape=full.shape)


def random_distances(number, share, levels, seed):
    """(N, N) float32 on a grid of values, so that there are many ties, mostly 1."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, (number, number)) / levels
    full = np.triu(np.where(rng.random((number, number)) < share, values, 1), 1)
    full = (full + full.T).astype(np.float32)
    np.fill_diagonal(full, 0)
    return full


def by_sklearn(full, eps, min_samples):
    model = sklearn.cluster.DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
    return model.fit(full).labels_


@settings(max_examples=150, deadline=None)
@given(
    number=st.integers(1, 60),
    share=st.sampled_from([0, 0.02, 0.05, 0.1, 0.3]),
    levels=st.sampled_from([2, 4, 100]),
    seed=st.integers(0, 1000),
    eps=st.sampled_from([0.25, 0.5, 0.6, 0.75]),
    min_samples=st.integers(1, 7),
)
def test_dbscan__labels_as_sklearn(number, share, levels, seed, eps, min_samples):
    full = random_distances(number, share, levels, seed)
    for switch in ("1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(compiled.SWITCH, switch)
            labels = dbscan(graph_of(full), eps, min_samples)
        np.testing.assert_array_equal(labels, by_sklearn(full, eps, min_samples))
        assert labels.dtype == np.int64


@pytest.mark.parametrize("seed", range(3))
def test_dbscan__labels_as_sklearn_on_more_images(seed):
    # Thirty parts without a pair between them; in each about 4 of 50 images are near to an image.
    part, full = random_distances(1500, 0.1, 50, seed), np.ones((1500, 1500), dtype=np.float32)
    for start in range(0, 1500, 50):
        own = slice(start, start + 50)
        full[own, own] = part[own, own]
    order = np.random.default_rng(seed).permutation(1500)
    full = full[np.ix_(order, order)]
    labels = dbscan(graph_of(full), 0.6, 4)
    np.testing.assert_array_equal(labels, by_sklearn(full, 0.6, 4))
    assert labels.max() > 5 and OUTLIER in labels


def test_dbscan__border_image_goes_to_the_lowest_number():
    # Image 0 is near to a core image of both clusters, first to the one with the higher number.
    full = np.ones((9, 9), dtype=np.float32)
    np.fill_diagonal(full, 0)
    for group in ((1, 2, 3, 4), (5, 6, 7, 8)):
        full[np.ix_(group, group)] = 0
    full[0, [4, 5]] = full[[4, 5], 0] = 0.1
    assert dbscan(graph_of(full), 0.5, 4).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_dbscan__farther_entries_of_the_graph_do_not_count():
    full = random_distances(80, 0.1, 20, 0)
    for eps in (0.1, 0.3, 0.55, 0.9):
        near = graph_of(np.where(full <= np.float32(eps), full, 1))
        np.testing.assert_array_equal(dbscan(graph_of(full), eps, 3), dbscan(near, eps, 3))


def test_dbscan__nobody_near_to_anybody():
    assert dbscan(graph_of(1 - np.eye(3, dtype=np.float32)), 0.5, 2).tolist() == [OUTLIER] * 3
    assert dbscan(graph_of(1 - np.eye(3, dtype=np.float32)), 0.5, 1).tolist() == [0, 1, 2]
