import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastreid_uda.labeling.refiners.p2lr import least_uncertain, selected_count, selected_share


@pytest.mark.parametrize(
    "rounds,at,shares",
    [
        (100, (0, 1, 5, 10, 20, 49, 98, 99),
         (0.3000, 0.3124, 0.3598, 0.4146, 0.5124, 0.7347, 0.9956, 1)),
        (70, (0, 1, 5, 10, 20, 34, 68, 69),
         (0.3000, 0.3177, 0.3842, 0.4589, 0.5872, 0.7333, 0.9937, 1)),
    ],
)  # fmt: skip
def test_selected_share__of_the_published_schedules(rounds, at, shares):
    got = [selected_share(t / (rounds - 1), 0.3, 1.5) for t in at]
    assert got == pytest.approx(shares, abs=5e-5)


@pytest.mark.parametrize("t,count", [(0, 3880), (1, 4041), (10, 5363), (99, 12936)])
def test_selected_count__of_the_images_of_market(t, count):
    assert selected_count(12936, selected_share(t / 99, 0.3, 1.5)) == count


@pytest.mark.parametrize("p0", [1e-3, 0.2, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("h", [0.0, 1e-12, 1.5, 30.0, 1e6])
def test_selected_share__has_exact_ends_and_rises(p0, h):
    shares = [selected_share(t / 10, p0, h) for t in range(11)]
    assert shares[0] == p0 and shares[-1] == 1.0
    assert all(a <= b for a, b in itertools.pairwise(shares))
    assert selected_share(1.5, p0, h) == 1.0  # a round beyond the planned ones


@given(
    progress=st.floats(0.001, 0.999), p0=st.floats(0.01, 0.99), h=st.floats(0.01, 20),
)  # fmt: skip
def test_selected_share__is_equation_10(progress, p0, h):
    printed = p0 + math.log(1 + (math.exp(h * (1 - p0)) - 1) * progress) / h
    assert selected_share(progress, p0, h) == pytest.approx(printed, abs=1e-9)


def test_selected_share__is_linear_without_h():
    assert selected_share(0.25, 0.2, 0.0) == pytest.approx(0.4)
    assert selected_share(0.25, 0.2, 1e-12) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "num,share,count",
    [(5, 0.2, 1), (5, 0.1, 1), (100, 0.29, 29), (10, 1.0, 10), (3, 0.999, 2), (0, 0.5, 0)],
)
def test_selected_count__rounds_down_and_keeps_one(num, share, count):
    assert selected_count(num, share) == count


def test_selected_count__the_last_round_is_complete_where_the_formula_is_a_hair_below_one():
    assert selected_count(12936, 0.9999999999999998) == 12936


@pytest.mark.parametrize(
    "share,kept", [(0.2, "10000"), (0.4, "11110"), (1.0, "11111"), (0.1, "10000")]
)
def test_least_uncertain__keeps_ties_and_at_least_one(share, kept):
    keep = least_uncertain(np.array([0.1, 0.2, 0.2, 0.2, 0.5]), share)
    assert "".join(map(str, keep.astype(int))) == kept


def test_least_uncertain__images_without_uncertainty_are_no_candidates():
    u = np.array([math.nan, 3.0, 1.0, math.nan, 2.0])
    assert least_uncertain(u, 0.5).tolist() == [False, False, True, False, False]
    assert least_uncertain(u, 1.0).tolist() == [False, True, True, False, True]
    assert not least_uncertain(np.full(3, math.nan), 1.0).any()


@given(st.lists(st.integers(0, 8), min_size=1, max_size=30), st.floats(0.01, 1))
def test_least_uncertain__equals_a_sorted_list(values, share):
    beta = sorted(values)[max(1, math.floor(share * len(values) + 1e-9)) - 1]
    keep = least_uncertain(np.array(values, dtype=float), share)
    assert keep.tolist() == [u <= beta for u in values]
