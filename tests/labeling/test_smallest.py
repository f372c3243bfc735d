import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastreid_uda.labeling import smallest as module
from fastreid_uda.labeling.smallest import Histogram, Smallest


def numbers_of(kind, size=3000, seed=0):
    """Many different numbers, many equal ones, or neighbours that differ in their last bit."""
    rng = np.random.default_rng(seed)
    if kind == "distances":
        return np.abs(rng.normal(1, 0.1, size=size)).astype(np.float32)
    if kind == "ties":
        return rng.integers(4, size=size).astype(np.float32) / 4
    bits = np.float32(0.7).view(np.uint32) + rng.integers(200, size=size).astype(np.uint32)
    return bits.view(np.float32)


KINDS = ["distances", "ties", "last-bit"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 7, 1000, 3000, 5000])
@pytest.mark.parametrize("room", [2, 1 << 16])
def test_smallest__equals_naive_sort(monkeypatch, kind, count, room):
    monkeypatch.setattr(module, "_LEAST_ROOM", room)
    numbers, smallest = numbers_of(kind), Smallest(count)
    for part in np.array_split(numbers, 11):
        smallest.add(part)
    np.testing.assert_array_equal(smallest.ascending(), np.sort(numbers)[:count])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 7, 1000, 2999, 3000])
def test_histogram__sum_equals_naive_sort(kind, count):
    numbers, histogram = numbers_of(kind), Histogram()
    parts = np.array_split(numbers, 11)
    for part in parts:
        histogram.add(part)
    expected = np.sort(numbers)[:count].sum(dtype=np.float64)
    assert histogram.sum_of(count, iter(parts)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 2.0**99, width=32), min_size=1, max_size=30), st.data())
def test_histogram__sum_of_any_numbers(values, data):
    numbers, histogram = np.float32(values), Histogram()
    count = data.draw(st.integers(1, len(values)))
    histogram.add(numbers)
    expected = np.sort(numbers)[:count].sum(dtype=np.float64)
    assert histogram.sum_of(count, [numbers]) == pytest.approx(expected, rel=1e-12)


def test_histogram__minus_zero_is_zero():
    numbers, histogram = np.float32([-0.0, 0.0, 2]), Histogram()
    histogram.add(numbers)
    assert histogram.sum_of(2, [numbers]) == 0
