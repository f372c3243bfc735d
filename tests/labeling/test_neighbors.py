import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastreid_uda.errors import UserError
from fastreid_uda.labeling import neighbors
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.neighbors import identical_rows, nearest_neighbors


def naive_neighbors(features, k):
    """All rows sorted by (squared distance, row number), in float64."""
    found = []
    for row in features.astype(np.float64):
        squared = ((features - row) ** 2).sum(axis=1)
        order = sorted(range(len(features)), key=lambda j: (squared[j], j))[:k]
        found.append([(j, squared[j]) for j in order])
    pairs = np.array(found)
    return pairs[..., 0].astype(int), pairs[..., 1]


def unit_rows(num_rows, dimension, seed=0):
    rng = np.random.default_rng(seed)
    return normalize_rows(rng.normal(size=(num_rows, dimension)).astype(np.float32))


@pytest.mark.parametrize("num_rows", [1, 5, 25, 26, 130])
@pytest.mark.parametrize("block_rows", [1, 7, 1024])
def test_nearest_neighbors__equals_naive_sort(num_rows, block_rows):
    features = unit_rows(num_rows, 12)
    indices, squared = nearest_neighbors(features, 10, block_rows=block_rows)
    expected, expected_squared = naive_neighbors(features, 10)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(squared, expected_squared, atol=1e-6)
    assert squared.dtype == np.float32 and indices.dtype == np.int64


# Small integers: products are exact in float32, and equal distances are everywhere.
@settings(max_examples=100, deadline=None)
@given(
    features=st.tuples(st.integers(1, 24), st.integers(1, 3)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=st.integers(-2, 2).map(float))
    ),
    k=st.integers(1, 26),
    block_rows=st.sampled_from([1, 5, 64]),
    block_columns=st.sampled_from([3, 8, 64]),
)
def test_nearest_neighbors__breaks_ties_by_index(features, k, block_rows, block_columns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "_BLOCK_COLUMNS", block_columns)
        indices, squared = nearest_neighbors(features, k, block_rows=block_rows)
    expected, expected_squared = naive_neighbors(features, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(squared, expected_squared)


def test_nearest_neighbors__ties_across_the_last_place():
    features = np.array([[0], [1], [-1], [1], [-1], [5]], dtype=np.float32)
    indices, squared = nearest_neighbors(features, 3)
    assert indices[0].tolist() == [0, 1, 2]
    assert squared[0].tolist() == [0, 1, 1]
    assert indices[4].tolist() == [2, 4, 0]


def test_nearest_neighbors__equal_rows_are_at_distance_zero_in_index_order():
    features = np.repeat(unit_rows(1, 300), 50, axis=0)
    indices, squared = nearest_neighbors(features, 7, block_rows=16)
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


def test_nearest_neighbors__follows_a_permutation():
    features, order = unit_rows(80, 16), np.random.default_rng(1).permutation(80)
    indices, _ = nearest_neighbors(features, 6)
    permuted, _ = nearest_neighbors(np.ascontiguousarray(features[order]), 6)
    np.testing.assert_array_equal(order[permuted], indices[order])


def test_nearest_neighbors__leaves_input_unchanged():
    features = unit_rows(30, 4)
    before = features.copy()
    nearest_neighbors(features, 3)
    assert (features == before).all()


@pytest.mark.parametrize("num_rows", [1, 5, 300])
def test_nearest_neighbors__faiss_finds_the_same(num_rows):
    pytest.importorskip("faiss")
    features = unit_rows(num_rows, 32)
    indices, squared = nearest_neighbors(features, 20)
    by_faiss, squared_by_faiss = nearest_neighbors(features, 20, backend="faiss")
    np.testing.assert_array_equal(np.sort(indices, axis=1), np.sort(by_faiss, axis=1))
    np.testing.assert_allclose(squared, squared_by_faiss, atol=1e-6)
    assert by_faiss.dtype == np.int64 and (squared_by_faiss >= 0).all()


def test_nearest_neighbors__no_rows():
    with pytest.raises(UserError, match="0 images"):
        nearest_neighbors(np.empty((0, 4), dtype=np.float32), 3)


def test_nearest_neighbors__unknown_backend():
    with pytest.raises(UserError, match=r"UDA.DISTANCE.JACCARD.BACKEND is 'annoy'.*faiss, numpy"):
        nearest_neighbors(unit_rows(4, 2), 2, backend="annoy")


def test_nearest_neighbors__missing_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match="not installed"):
        nearest_neighbors(unit_rows(4, 2), 2, backend="faiss")


def test_nearest_neighbors__k_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        nearest_neighbors(unit_rows(4, 2), 0)


def test_identical_rows__only_whole_rows_count():
    # The first two rows have the same checksum and are different.
    features = np.array([[1, 2], [2, 1], [0, 0], [2, 1], [0, 0]], dtype=np.float32)
    assert identical_rows(features).tolist() == [0, 1, 2, 1, 2]
    assert identical_rows(features[:3]) is None
