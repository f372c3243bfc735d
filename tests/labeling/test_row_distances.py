import numpy as np
import pytest

from fastreid_uda import compiled
from fastreid_uda.labeling import row_distances
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.row_distances import distance_bounds, identical_rows, pair_distances


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def path(request, monkeypatch):
    """Every test runs with the kernels and without."""
    monkeypatch.setenv(compiled.SWITCH, "1" if request.param == "compiled" else "0")
    if request.param == "compiled" and not compiled.available():
        pytest.skip("Numba is not installed")


def unit_rows(num_rows, dimension, seed=0):
    rng = np.random.default_rng(seed)
    return normalize_rows(rng.normal(size=(num_rows, dimension)).astype(np.float32))


@pytest.mark.parametrize("dimension", [1, 63, 64, 65, 300, 2048])
def test_pair_distances__equal_naive_sums(dimension):
    rng = np.random.default_rng(dimension)
    features = rng.normal(size=(40, dimension)).astype(np.float32)
    rows, columns = rng.integers(0, 40, (2, 500))
    difference = (features[rows] - features[columns]).astype(np.float64)
    expected = (difference**2).sum(axis=1).astype(np.float32)
    found = pair_distances(features, rows, columns)
    np.testing.assert_array_max_ulp(found, expected, maxulp=1)
    assert found.dtype == np.float32
    assert (found == pair_distances(features, columns, rows)).all()
    assert (pair_distances(features, rows, rows) == 0).all()


def test_pair_distances__same_bits_in_blocks_threads_and_without_kernels(monkeypatch):
    features = unit_rows(50, 333)
    rows, columns = np.random.default_rng(0).integers(0, 50, (2, 2000))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = pair_distances(features, rows, columns)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(row_distances, "_PAIRS_PER_TASK", 77)
    monkeypatch.setattr(row_distances, "_CELLS_AT_A_TIME", 5000)
    for switch in "10":
        monkeypatch.setenv(compiled.SWITCH, switch)
        assert (pair_distances(features, rows, columns) == expected).all()


def test_pair_distances__no_pairs():
    nothing = np.empty(0, dtype=np.int64)
    assert pair_distances(unit_rows(4, 8), nothing, nothing).shape == (0,)


@pytest.mark.parametrize("dimension", [3, 500])
def test_distance_bounds__hold_for_any_order_of_sums(dimension):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, dimension)) * 10.0 ** rng.integers(-2, 3, (60, 1))
    features = features.astype(np.float32)
    features[30:] = features[:30] * np.float32(1 + 1e-6)
    lower, slack = distance_bounds((features.astype(float) ** 2).sum(axis=1), dimension)
    lower, slack = lower.astype(np.float32), slack.astype(np.float32)
    rows, columns = (places.ravel() for places in np.indices((60, 60)))
    canonical = pair_distances(features, rows, columns)
    terms = features[rows] * features[columns]
    one_by_one = np.cumsum(terms, axis=1, dtype=np.float32)[:, -1]
    for product in (one_by_one, (features @ features.T).ravel()):
        bound = lower[rows] + lower[columns] - np.float32(2) * product
        assert (bound <= canonical).all()
        assert (bound + (slack[rows] + slack[columns]) >= canonical).all()
    small = slack[rows] + slack[columns] <= 1e-4 * (1 + dimension) * lower.max()
    assert small.all()


def test_identical_rows__only_whole_rows_count():
    # The first two rows have the same checksum and are different.
    features = np.array([[1, 2], [2, 1], [0, 0], [2, 1], [0, 0]], dtype=np.float32)
    assert identical_rows(features).tolist() == [0, 1, 2, 1, 2]
    assert identical_rows(features[:3]) is None
