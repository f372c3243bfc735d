import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastreid_uda.labeling.reliability import overlap, reliability
from fastreid_uda.labeling.types import OUTLIER


def naive_overlap(labels, others):
    """The published formula: N x N masks of who is with whom, each outlier with itself alone."""

    def together(y):
        return (y[:, None] == y) & (y != OUTLIER) | np.eye(len(y), dtype=bool)

    one, other = together(labels), together(others)
    return (one & other).sum(axis=1) / (one | other).sum(axis=1)


@settings(max_examples=100, deadline=None)
@given(
    number=st.integers(0, 60),
    classes=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 1000),
)
def test_overlap__equals_the_masks(number, classes, seed):
    rng = np.random.default_rng(seed)
    labels, others = (rng.integers(OUTLIER, k, number) for k in classes)
    before = labels.copy(), others.copy()
    np.testing.assert_array_equal(overlap(labels, others), naive_overlap(labels, others))
    assert (labels == before[0]).all() and (others == before[1]).all()


def test_reliability__toy():
    labels = np.array([0, 0, 0, 1, 1, OUTLIER])
    tight = np.array([0, 0, OUTLIER, 1, 1, OUTLIER])
    loose = np.array([0, 0, 0, 1, 1, 1])
    scores = reliability(labels, tight, loose)
    assert scores.independence.tolist() == [1, 1, 1, 2 / 3, 2 / 3, 1 / 3]
    assert scores.compactness.tolist() == [2 / 3, 2 / 3, 1 / 3, 1, 1, 1]


@pytest.mark.parametrize("label", [0, OUTLIER])
def test_overlap__with_itself_is_one(label):
    labels = np.array([0, 3, 3, label, 9])
    assert overlap(labels, labels).tolist() == [1] * 5
