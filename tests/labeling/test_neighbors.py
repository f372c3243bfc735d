import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_info

from fastreid_uda import compiled, progress
from fastreid_uda.errors import UserError
from fastreid_uda.labeling import neighbors, neighbors_tiles
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.neighbors import check_backend, memory_needed, nearest_neighbors
from fastreid_uda.labeling.row_distances import pair_distances

EXACT = [("numpy", "float32"), ("faiss", "float32"), ("torch", "float32"), ("torch", "bfloat16")]


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def path(request, monkeypatch):
    """Every test runs with the kernels and without."""
    monkeypatch.setenv(compiled.SWITCH, "1" if request.param == "compiled" else "0")
    if request.param == "compiled" and not compiled.available():
        pytest.skip("Numba is not installed")


def naive_neighbors(features, k, groups=None, across=False):
    """The eligible rows sorted by (canonical squared distance, row number)."""
    indices = np.full((len(features), k), -1)
    squared = np.full((len(features), k), np.inf, dtype=np.float32)
    for i, row in enumerate(features):
        distances = ((features - row).astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
        among = range(len(features))
        if groups is not None:
            among = [j for j in among if (groups[j] == groups[i]) != across]
        order = sorted(among, key=lambda j: (distances[j], j))[:k]
        indices[i, : len(order)], squared[i, : len(order)] = order, distances[order]
    return indices, squared


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def unit_rows(num_rows, dimension, seed=0):
    rng = np.random.default_rng(seed)
    return normalize_rows(rng.normal(size=(num_rows, dimension)).astype(np.float32))


def small_tiles(patch):
    """Tiles of at most 16 rows, and buffers with little room."""
    patch.setattr(neighbors_tiles, "_TILE_ROWS", 16)
    patch.setattr(neighbors_tiles, "_LEAST_TILE_ROWS", 16)
    patch.setattr(neighbors_tiles, "capacity", lambda k: k + 9)


@pytest.mark.parametrize(("backend", "precision"), EXACT)
@pytest.mark.parametrize("num_rows", [1, 5, 25, 26, 300])
def test_nearest_neighbors__equals_naive_sort(num_rows, backend, precision):
    pytest.importorskip(backend)
    features = unit_rows(num_rows, 32)
    found = nearest_neighbors(features, 10, backend=backend, precision=precision)
    assert_same(found, naive_neighbors(features, min(10, num_rows)))
    assert found[0].dtype == np.int64 and found[1].dtype == np.float32


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("groups", [None, 2, 9, 60])
def test_nearest_neighbors__in_small_tiles(groups, across, threads, monkeypatch):
    small_tiles(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    features = unit_rows(230, 48, seed=3)
    if groups:  # the first half is of one group, the rest of any
        groups = np.where(np.arange(230) % 2, np.random.default_rng(1).integers(0, groups, 230), -7)
    found = nearest_neighbors(features, 7, groups=groups, across=across)
    assert_same(found, naive_neighbors(features, 7, groups, across))


# Small integers: equal rows and equal distances are everywhere.
INTEGERS = st.tuples(st.integers(1, 40), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-2, 2).map(float))
)


@settings(max_examples=60, deadline=None)
@given(
    features=INTEGERS,
    k=st.integers(1, 42),
    small=st.booleans(),
    most_equal=st.sampled_from([1, 8, 99]),
    backend=st.sampled_from(EXACT),
)
def test_nearest_neighbors__breaks_ties_by_index(features, k, small, most_equal, backend):
    pytest.importorskip(backend[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "_MOST_EQUAL", most_equal)
        if small:
            small_tiles(patch)
        found = nearest_neighbors(features, k, backend=backend[0], precision=backend[1])
    assert_same(found, naive_neighbors(features, min(k, len(features))))


@settings(max_examples=60, deadline=None)
@given(
    features=INTEGERS,
    k=st.integers(1, 42),
    groups=st.lists(st.integers(0, 3) | st.integers(0, 40), min_size=40, max_size=40),
    across=st.booleans(),
    small=st.booleans(),
    most_equal=st.sampled_from([1, 8, 99]),
    backend=st.sampled_from(EXACT),
)
def test_nearest_neighbors__of_groups(features, k, groups, across, small, most_equal, backend):
    pytest.importorskip(backend[0])
    groups = np.array(groups[: len(features)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "_MOST_EQUAL", most_equal)
        if small:
            small_tiles(patch)
        found = nearest_neighbors(
            features, k, backend=backend[0], precision=backend[1], groups=groups, across=across
        )
    assert_same(found, naive_neighbors(features, k, groups, across))


@pytest.mark.parametrize(("backend", "precision"), EXACT)
@pytest.mark.parametrize("kind", ["near", "collapsed", "lengths", "huge", "tiny"])
def test_nearest_neighbors__where_float32_products_decide_nothing(kind, backend, precision):
    pytest.importorskip(backend)
    rng = np.random.default_rng(0)
    features = unit_rows(200, 40)
    if kind == "near":  # hundreds of rows within the rounding of a product
        features = features[:1] + np.float32(1e-6) * features
    elif kind == "collapsed":
        features = features[rng.integers(0, 4, 200)]
        features[::3] *= np.float32(1 + 1e-6)
    else:
        factor = {"lengths": 10.0 ** rng.integers(-6, 7, (200, 1)), "huge": 1e19, "tiny": 1e-24}
        features *= np.float32(factor[kind])
    with np.errstate(over="ignore"):
        found = nearest_neighbors(features, 12, backend=backend, precision=precision)
        assert_same(found, naive_neighbors(features, 12))


def test_nearest_neighbors__ties_across_the_last_place():
    features = np.array([[0], [1], [-1], [1], [-1], [5]], dtype=np.float32)
    indices, squared = nearest_neighbors(features, 3)
    assert indices[0].tolist() == [0, 1, 2]
    assert squared[0].tolist() == [0, 1, 1]
    assert indices[4].tolist() == [2, 4, 0]


@pytest.mark.parametrize(("backend", "precision"), EXACT)
def test_nearest_neighbors__all_rows_equal(backend, precision):
    pytest.importorskip(backend)
    features = np.repeat(unit_rows(1, 300), 50, axis=0)
    indices, squared = nearest_neighbors(features, 7, backend=backend, precision=precision)
    assert (indices == np.arange(7)).all() and (squared == 0).all()


def test_nearest_neighbors__duplicates_of_a_row_come_before_near_rows():
    features = unit_rows(40, 64)
    features[[9, 30]] = features[3]
    features[20] = features[3] + np.float32(1e-6)
    indices, squared = nearest_neighbors(features, 4)
    assert indices[30].tolist() == [3, 9, 30, 20]
    assert squared[30, :3].tolist() == [0, 0, 0]


def test_nearest_neighbors__zero_rows():
    features = unit_rows(20, 8)
    features[[4, 11]] = 0
    indices, squared = nearest_neighbors(features, 3)
    assert indices[11, :2].tolist() == [4, 11]
    assert squared[11, 2] == pytest.approx(1, abs=1e-6)


def test_nearest_neighbors__k_is_clamped():
    assert nearest_neighbors(unit_rows(5, 3), 30)[0].shape == (5, 5)
    assert nearest_neighbors(unit_rows(5, 3), 30, groups=np.zeros(5))[0].shape == (5, 30)


def test_nearest_neighbors__follows_a_permutation():
    features, order = unit_rows(80, 16), np.random.default_rng(1).permutation(80)
    indices, _ = nearest_neighbors(features, 6)
    permuted, _ = nearest_neighbors(np.ascontiguousarray(features[order]), 6)
    np.testing.assert_array_equal(order[permuted], indices[order])


@pytest.mark.parametrize(("backend", "precision"), EXACT)
def test_nearest_neighbors__leaves_input_unchanged(backend, precision):
    pytest.importorskip(backend)
    features = unit_rows(30, 4)
    before = features.copy()
    nearest_neighbors(features, 3, backend=backend, precision=precision)
    assert (features == before).all() and features.flags.writeable


@pytest.mark.parametrize(("backend", "precision"), EXACT)
def test_nearest_neighbors__takes_what_cannot_be_written(backend, precision):
    pytest.importorskip(backend)
    features = unit_rows(60, 8)[:, ::2]
    expected = naive_neighbors(features, 3)
    features.flags.writeable = False
    groups = np.zeros(60, dtype=np.int8)
    groups.flags.writeable = False
    for options in ({}, {"groups": groups}):
        found = nearest_neighbors(features, 3, backend=backend, precision=precision, **options)
        assert_same(found, expected)


def test_nearest_neighbors__more_neighbors_than_a_row_may_have_across_groups():
    features = unit_rows(12, 4)
    indices, squared = nearest_neighbors(features, 5, groups=np.zeros(12), across=True)
    assert (indices == -1).all() and np.isinf(squared).all()


@pytest.mark.parametrize("approximate", ["ivf", "hnsw"])
def test_nearest_neighbors__approximate(approximate):
    pytest.importorskip("faiss")
    features = unit_rows(600, 16)
    groups = np.arange(600) % 2
    for options in ({}, {"groups": groups}, {"groups": groups, "across": True}):
        exact, squared = nearest_neighbors(features, 8, **options)
        options |= {"approximate": approximate, "force_approximate": True}
        found, values = nearest_neighbors(features, 8, **options)
        recall = np.mean([len(set(a) & set(b)) / 8 for a, b in zip(exact, found, strict=True)])
        assert recall > 0.8
        rows, places = np.nonzero(found >= 0)
        measured = pair_distances(features, rows, found[rows, places])
        assert (measured == values[rows, places]).all()
        assert (values[:, 1:] >= values[:, :-1]).all() and (values >= squared).all()
        assert_same(nearest_neighbors(features, 8, **options), (found, values))


def test_nearest_neighbors__distrusts_products_beyond_their_bound(monkeypatch, caplog):
    torch = pytest.importorskip("torch")
    from fastreid_uda.labeling.neighbors_torch import Search

    products = Search._products
    monkeypatch.setattr(Search, "_products", lambda *a: products(*a) * torch.tensor(1.01))
    features = unit_rows(50, 16)
    with caplog.at_level(logging.WARNING):
        found = nearest_neighbors(features, 5, backend="torch")
    assert "less exact than float32" in caplog.text
    assert_same(found, naive_neighbors(features, 5))


def test_nearest_neighbors__does_not_bring_torch_or_faiss():
    code = """
import sys, numpy as np
from fastreid_uda.labeling.neighbors import nearest_neighbors
nearest_neighbors(np.eye(9, dtype=np.float32), 3)
print(*({"torch", "faiss"} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nearest_neighbors__on_a_gpu(precision):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    features = unit_rows(5000, 256)
    found = nearest_neighbors(features, 20, backend="torch", precision=precision)
    assert_same(found, nearest_neighbors(features, 20, backend="numpy"))


@pytest.mark.parametrize("backend", ["numpy", "faiss", "torch"])
def test_memory_needed__grows_with_every_argument(backend):
    base = memory_needed(1000, 64, 20, backend)
    assert 1000 * 20 * 12 < base < 100e6
    assert memory_needed(9000, 64, 20, backend) > base < memory_needed(1000, 64, 40, backend)
    assert memory_needed(100_000, 2048, 30, "numpy") < 300e6


def test_nearest_neighbors__no_rows():
    with pytest.raises(UserError, match="0 images"):
        nearest_neighbors(np.empty((0, 4), dtype=np.float32), 3)


def test_nearest_neighbors__unknown_backend():
    with pytest.raises(
        UserError, match=r"UDA.DISTANCE.JACCARD.BACKEND is 'annoy'.*faiss, numpy, torch"
    ):
        nearest_neighbors(unit_rows(4, 2), 2, backend="annoy")


def test_nearest_neighbors__missing_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match="not installed"):
        nearest_neighbors(unit_rows(4, 2), 2, backend="faiss")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "half"}, "PRECISION is 'half', but the known names are: bfloat16, float32"),
        ({"precision": "bfloat16"}, "PRECISION is 'bfloat16', but only torch.*BACKEND to torch"),
        ({"approximate": "lsh"}, "APPROXIMATE is 'lsh', but must be '' .exact., 'hnsw' or 'ivf'"),
        ({"approximate": "ivf", "backend": "numpy"}, "APPROXIMATE is 'ivf'.*BACKEND is 'numpy'"),
    ],
)
def test_check_backend__refuses_what_does_not_go_together(options, sentence):
    key = "UDA.DISTANCE.CAJACCARD.BACKEND"
    with pytest.raises(UserError, match=rf"UDA\.DISTANCE\.CAJACCARD\.{sentence}"):
        check_backend(**{"backend": "auto", "key": key} | options)


def test_check_backend__approximate_without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match="APPROXIMATE is 'ivf', but faiss is not installed"):
        check_backend("auto", approximate="ivf")


def test_nearest_neighbors__no_approximation_of_few_images():
    pytest.importorskip("faiss")
    with pytest.raises(UserError, match=r"APPROXIMATE is 'ivf', but below 50,000.*FORCE_APPROX"):
        nearest_neighbors(unit_rows(40, 4), 2, approximate="ivf")


def test_nearest_neighbors__features_that_are_not_finite():
    features = unit_rows(9, 4)
    features[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        nearest_neighbors(features, 2)


def test_nearest_neighbors__k_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        nearest_neighbors(unit_rows(4, 2), 0)


def test_nearest_neighbors__of_many_images_say_how_far_they_are(monkeypatch, caplog):
    caplog.set_level("INFO")
    small_tiles(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    times = iter(range(0, 100_000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))
    nearest_neighbors(unit_rows(300, 4), 3, backend="numpy")
    said = [message for message in caplog.messages if "Nearest neighbours of 300 images" in message]
    assert said and all(" % after " in message for message in said)


def test_nearest_neighbors__side_by_side_leave_the_threads_of_blas_as_they_were(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    features = unit_rows(1500, 64)
    before = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: nearest_neighbors(features, 5)[0], range(6)))
    assert all((lists == found[0]).all() for lists in found)
    now = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert now[: len(before)] == before
