import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.blockwise import BlockwiseDistances
from fastreid_uda.labeling.eps import (
    EPS_RULES,
    CrossCamera,
    FixedEps,
    Rho,
    check_eps,
    cross_camera_eps,
    rho_eps,
)
from fastreid_uda.labeling.pairwise import SparseDistances


def points_on_a_line(num_rows):
    """Distances between neighbours grow: 1, 2, 3, ..."""
    positions = np.cumsum(np.arange(num_rows))
    return BlockwiseDistances(positions[:, None].astype(np.float32), "euclidean")


def naive_rho(distances, fraction):
    """Upper triangle, no zeros, the mean of the first round(rho * M)."""
    full = np.vstack([block for _, _, block in distances.row_blocks()]).astype(np.float64)
    pairs = np.sort(full[np.triu_indices(len(full), 1)])
    pairs = pairs[pairs > 0]
    return pairs[: round(fraction * len(pairs))].mean()


@pytest.mark.parametrize("num_rows", [26, 40, 100])
def test_rho_eps__equals_the_definition(num_rows):
    features = np.random.default_rng(0).normal(size=(num_rows, 4)).astype(np.float32)
    distances = BlockwiseDistances(features, "euclidean")
    assert rho_eps(distances) == pytest.approx(naive_rho(distances, 1.6e-3), rel=1e-6)


@pytest.mark.parametrize(("num_rows", "rounded"), [(25, 0), (26, 1)])
def test_rho_eps__26_images_are_the_fewest_whose_count_rounds_to_one(num_rows, rounded):
    distances = points_on_a_line(num_rows)
    assert round(1.6e-3 * math.comb(num_rows, 2)) == rounded
    assert distances.smallest_mean(1.6e-3)[1] == 1
    assert rho_eps(distances) == 1.0


def test_rho_eps__golden_toy():
    # Positions 0, 1, 3, 6: distances 1, 2, 3, 3, 5, 6.
    distances = points_on_a_line(4)
    assert rho_eps(distances, 0.5) == pytest.approx((1 + 2 + 3) / 3)
    assert rho_eps(distances, 1.0) == pytest.approx(20 / 6)


def test_rho_eps__zeros_do_not_count():
    distances = BlockwiseDistances(np.array([[0], [0], [0], [2]], dtype=np.float32), "euclidean")
    assert distances.smallest_mean(0.5) == (2.0, 2)  # round half to even of 1.5


def test_rho_eps__jaccard_pairs_that_are_not_stored_count_as_one():
    stored = np.float32([0, 0.25, 0.25, 0, 0])
    distances = SparseDistances(csr_matrix((stored, ([0, 0, 1, 1, 2], [0, 1, 0, 1, 2]))))
    assert rho_eps(distances, 1.0) == pytest.approx((0.25 + 1 + 1) / 3)


@pytest.mark.parametrize("num_rows", [1, 3])
def test_rho_eps__no_distance_above_zero(num_rows):
    same = BlockwiseDistances(np.ones((num_rows, 2), dtype=np.float32), "euclidean")
    with pytest.raises(UserError, match="no distance above 0"):
        rho_eps(same)


def test_rho__is_the_rule_of_the_config():
    rule = EPS_RULES.build("Rho", fraction=0.5)
    distances = points_on_a_line(6)
    assert rule.find(distances, np.zeros(6)) == rho_eps(distances, 0.5)
    assert EPS_RULES.defaults("Rho") == {"fraction": 1.6e-3}


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, math.nan])
def test_rho__fraction_out_of_range(fraction):
    with pytest.raises(UserError, match=r"UDA.CLUSTER.RHO.FRACTION"):
        Rho(fraction)


# Three pairs of cameras 0 and 1; the distances of the 9 pairs across them, sorted:
# 1, 1, 1.414214, 3, 4, 4, 6.082763, 9, 10.
POINTS = np.float32([[0, 0], [0, 1], [1, 0], [4, 0], [4, 1], [10, 0]])
CAMERAS = np.array([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("fraction", "count", "eps"),
    [
        (0.25, 2, 1.0),
        (0.5, 4, 1.603553),  # 4.5 rounded half to even
        (1e-9, 1, 1.0),
        (1.0, 9, 4.388553),
    ],
)
def test_cross_camera_eps__golden(fraction, count, eps):
    distances = BlockwiseDistances(POINTS, "euclidean", block_rows=4)
    assert cross_camera_eps(distances, CAMERAS, fraction) == pytest.approx(eps, abs=1e-6)
    assert distances.smallest_mean(fraction, CAMERAS, zeros=True)[1] == count


def test_cross_camera_eps__pairs_of_one_camera_do_not_count():
    # The two nearest images are of one camera: rho would give 1.
    distances = BlockwiseDistances(np.float32([[0], [1], [5]]), "euclidean")
    cameras = np.array([7, 7, 2])
    assert rho_eps(distances, 0.1) == 1
    assert cross_camera_eps(distances, cameras, 0.1) == 4


def test_cross_camera_eps__pairs_at_distance_zero_count():
    distances = BlockwiseDistances(np.float32([[0], [0], [3]]), "euclidean")
    assert cross_camera_eps(distances, np.array([0, 1, 1]), 1.0) == pytest.approx((0 + 3) / 2)


def test_cross_camera_eps__only_zeros_count():
    distances = BlockwiseDistances(np.float32([[0], [0], [3]]), "euclidean")
    with pytest.raises(UserError, match=r"1 nearest pairs.*raise UDA\.CLUSTER\.CROSSCAMERA\."):
        cross_camera_eps(distances, np.array([0, 1, 1]), 0.1)


def test_cross_camera__is_a_rule_of_the_config():
    rule = EPS_RULES.build("CrossCamera", fraction=0.5)
    distances = BlockwiseDistances(POINTS, "euclidean")
    assert rule.find(distances, CAMERAS) == cross_camera_eps(distances, CAMERAS, 0.5)
    assert EPS_RULES.defaults("CrossCamera") == {"fraction": 0.0012}


@pytest.mark.parametrize(
    ("camera_ids", "words"), [(None, "no camera ids"), (np.zeros(6, dtype=int), r"1 camera\(s\)")]
)
def test_cross_camera__needs_two_cameras_and_says_what_to_change(camera_ids, words):
    rule = CrossCamera()
    advice = (
        rf"{words}.*UDA\.CLUSTER\.EPS_RULE CrossCamera.*set it to Rho, or set UDA\.CLUSTER\.EPS"
    )
    with pytest.raises(UserError, match=advice):
        rule.check_cameras(camera_ids)
    with pytest.raises(UserError, match=advice):
        rule.find(BlockwiseDistances(POINTS, "euclidean"), camera_ids)
    rule.check_cameras(CAMERAS)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, math.nan])
def test_cross_camera__fraction_out_of_range(fraction):
    with pytest.raises(UserError, match=r"UDA\.CLUSTER\.CROSSCAMERA\.FRACTION"):
        CrossCamera(fraction)


def test_fixed_eps__is_what_was_set():
    assert FixedEps(0.6).find(points_on_a_line(3)) == 0.6


@pytest.mark.parametrize("eps", [0, -0.1, math.nan, math.inf])
def test_check_eps__refuses(eps):
    with pytest.raises(UserError, match=rf"UDA.CLUSTER.EPS is {eps}"):
        check_eps(eps)
    with pytest.raises(UserError, match=r"UDA.CLUSTER.EPS"):
        FixedEps(eps)


def test_check_eps__returns_the_number():
    assert check_eps(0.5) == 0.5
