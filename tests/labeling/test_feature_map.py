import numpy as np
import pytest

from fastreid_uda.labeling.clustering import DBSCAN, KMeans
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.feature_map import DIMENSIONS, FeatureMap, map_features
from fastreid_uda.labeling.pipeline import PseudoLabeler
from tests.helpers import make_features


def features(images=300, dim=80, rank=20):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(images, rank)) @ rng.normal(size=(rank, dim))).astype(np.float32)


def test_map__keeps_distances_up_to_one_factor():
    x = features()
    found = map_features(x, 100, seed=3)
    assert found.features.shape == (100, DIMENSIONS) and found.features.dtype == np.float16
    assert found.variance == pytest.approx(1, abs=1e-6)  # rank 20 is less than 50
    assert np.abs(found.features).max() == 1
    ours, theirs = (
        np.linalg.norm(y[:, None] - y[None], axis=2)[np.triu_indices(100, 1)]
        for y in (found.features.astype(np.float64), x[found.rows].astype(np.float64))
    )
    ratio = ours / theirs
    assert ratio.max() / ratio.min() < 1.01


def test_map__sample_is_the_same_in_all_rounds_and_with_the_seed():
    one, other = map_features(features(), 100, 3), map_features(features() ** 2, 100, 3)
    np.testing.assert_array_equal(one.rows, other.rows)
    assert (np.diff(one.rows) > 0).all()
    assert map_features(features(), 100, 4).rows.tolist() != one.rows.tolist()
    again = map_features(features(), 100, 3)
    np.testing.assert_array_equal(one.features, again.features)


def test_map__leaves_the_global_generator_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    map_features(features(), 50, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_map__of_few_images_holds_them_all():
    found = map_features(features(images=4), 2000, 0)
    assert found.rows.tolist() == [0, 1, 2, 3] and found.features.shape == (4, 4)


@pytest.mark.parametrize("value", [0, 1, -3e18])
def test_map__of_identical_images_is_one_point(value):
    found = map_features(np.full((5, 8), value, np.float32), 4, 0)
    assert not found.features.any() and found.variance == 1


def test_map__of_long_rows_is_finite():
    assert np.isfinite(map_features(features() * np.float32(1e16), 100, 0).features).all()


def test_map__none():
    assert map_features(features(), 0, 0) is None


def test_expand__rows_of_the_whole_list():
    part = FeatureMap(np.array([0, 2]), np.zeros((2, 1), np.float16), 1.0)
    assert part.expand(np.array([False, True, True, False, True])).rows.tolist() == [1, 4]


def test_pipeline__labels_are_the_same_with_and_without_a_map():
    features, _ = make_features()
    plain, mapped = (
        PseudoLabeler(Jaccard(8, 3), FixedEps(0.6), KMeans(num_clusters=9, n_init=2), map_images=n)(
            features
        )
        for n in (0, 50)
    )
    assert plain.feature_map is None and len(mapped.feature_map.rows) == 50
    np.testing.assert_array_equal(*(x.labels["global"].labels for x in (plain, mapped)))


def test_pipeline__map_of_images_that_are_left_out_is_of_the_others():
    features, _ = make_features()
    features.views["global"][[3, 40]] = np.nan
    labeler = PseudoLabeler(
        Jaccard(8, 3), FixedEps(0.6), DBSCAN(), non_finite="drop", map_images=1000
    )
    found = labeler(features)
    assert found.feature_map.rows.tolist() == [n for n in range(96) if n not in (3, 40)]
    assert np.isnan(found.silhouettes["global"].of_images[[3, 40]]).all()
