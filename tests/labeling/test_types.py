from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.types import (
    OUTLIER,
    FeatureSet,
    PseudoLabels,
    class_centroids,
    class_means,
    kept_in_all,
    make_pseudo_labels,
    renumber,
)


def test_renumber__closes_gaps_in_order_and_keeps_outliers():
    labels, old = renumber(np.array([4, OUTLIER, 2, 4, 9], dtype=np.int64))
    assert labels.tolist() == [1, OUTLIER, 0, 1, 2]
    assert old.tolist() == [2, 4, 9]


def test_renumber__all_outliers():
    labels, old = renumber(np.full(3, OUTLIER))
    assert labels.tolist() == [OUTLIER] * 3
    assert len(old) == 0


def test_renumber__by_appearance():
    labels, old = renumber(
        np.array([OUTLIER, 4, 2, 4, 9, 0, 2], dtype=np.int64), by_appearance=True
    )
    assert labels.tolist() == [OUTLIER, 0, 1, 0, 2, 3, 1]
    assert old.tolist() == [4, 2, 9, 0]
    assert renumber(np.full(3, OUTLIER), by_appearance=True)[0].tolist() == [OUTLIER] * 3


def test_kept_in_all__is_labelled_in_every_view():
    x = np.eye(4, dtype=np.float32)
    labels = {"global": [0, 1, OUTLIER, 1], "top": [OUTLIER, 0, OUTLIER, 0]}
    parts = {view: make_pseudo_labels(np.array(y), x) for view, y in labels.items()}
    assert kept_in_all(parts).tolist() == [False, True, False, True]
    assert kept_in_all({"global": parts["global"]}).tolist() == [True, True, False, True]


def test_class_centroids__are_normalised_means_of_the_class():
    features = np.array([[1, 0], [0, 1], [1, 0], [0, -3]], dtype=np.float32)
    labels = np.array([0, 0, OUTLIER, 2])
    centroids = class_centroids(features, labels, num_classes=3)
    assert centroids == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0, 0], [0, -1]]))


def test_class_means__equal_a_loop_and_leave_lengths_as_they_are():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 6, size=40)
    labels[labels == 4] = 0  # a class without images
    labels[7] = 6  # and one with a single image
    features = rng.normal(size=(40, 3)).astype(np.float32)
    features[labels == OUTLIER] = np.nan
    means = class_means(features, labels, 8)
    for k in range(8):
        own = [features[n].astype(float) for n in range(40) if labels[n] == k]
        expected = sum(own) / len(own) if own else np.zeros(3)
        np.testing.assert_allclose(means[k], expected, atol=1e-6)
    assert means.dtype == np.float32 and (means[[4, 7]] == 0).all()


def test_class_centroids__equal_a_loop():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 7)).astype(np.float32)
    labels = rng.integers(-1, 5, size=40)
    centroids = class_centroids(features, labels, 5)
    for k in range(5):
        mean = features[labels == k].astype(np.float64).mean(axis=0)
        assert centroids[k] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_pseudo_labels__refuse_a_label_without_a_centroid():
    with pytest.raises(ValueError, match=r"must lie in -1\.\.1"):
        PseudoLabels(np.array([0, 2]), np.zeros((2, 3), np.float32), np.ones(2, np.float32))


def test_drop__makes_outliers_without_weight_and_keeps_classes():
    labels = make_pseudo_labels(np.array([0, 1, 1]), np.eye(3, dtype=np.float32))
    dropped = labels.drop(np.array([True, False, False]))
    assert dropped.labels.tolist() == [OUTLIER, 1, 1]
    assert dropped.weights.tolist() == [0, 1, 1]
    assert dropped.num_classes == 2
    assert labels.labels.tolist() == [0, 1, 1]


def test_feature_set__names_the_view_of_another_length():
    views = {"global": np.zeros((3, 2), np.float32), "top": np.zeros((2, 2), np.float32)}
    with pytest.raises(UserError, match="'top' has 2 rows"):
        FeatureSet(views)


def test_feature_set__counts_camera_ids():
    with pytest.raises(UserError, match="camera_ids has shape"):
        FeatureSet({"global": np.zeros((3, 2), np.float32)}, np.zeros(2, np.int64))


def test_feature_set__extras_need_one_row_per_image():
    views = {"global": np.zeros((3, 2), np.float32)}
    with pytest.raises(UserError, match="'student/global' has 2 rows"):
        FeatureSet(views, extras={"student/global": np.zeros((2, 2), np.float32)})
    assert FeatureSet(views).extras == {}


def test_feature_set__subset_takes_extras_and_cameras_along():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    rows = np.array([True, False, True])
    some = FeatureSet({"global": x}, np.array([4, 5, 6]), {"student/global": -x}).subset(rows)
    assert some.views["global"].tolist() == [[0, 1], [4, 5]]
    assert some.extras["student/global"].tolist() == [[0, -1], [-4, -5]]
    assert some.camera_ids.tolist() == [4, 6]
    assert FeatureSet({"global": x}).subset(rows).camera_ids is None


def test_feature_set__map_views_leaves_extras():
    x = np.ones((3, 2), np.float32)
    doubled = FeatureSet({"global": x}, extras={"student/global": x}).map_views(lambda y: 2 * y)
    assert (doubled.views["global"] == 2).all() and (doubled.extras["student/global"] == 1).all()


def labels_with_uncertainty():
    labels = make_pseudo_labels(np.array([0, 1, 1]), np.eye(3, dtype=np.float32))
    return replace(labels, uncertainty=np.array([0.5, np.nan, 2.0], dtype=np.float32))


def test_pseudo_labels__need_an_uncertainty_for_every_image():
    labels = labels_with_uncertainty()
    with pytest.raises(ValueError, match="3 labels but 2 uncertainties"):
        replace(labels, uncertainty=labels.uncertainty[:2])


def test_drop__keeps_the_uncertainty_of_all_images():
    labels = labels_with_uncertainty()
    dropped = labels.drop(np.array([True, False, True]))
    np.testing.assert_array_equal(dropped.uncertainty, labels.uncertainty)


def test_expand__makes_the_other_images_outliers_without_uncertainty():
    labels = labels_with_uncertainty().expand(np.array([False, True, True, False, True]))
    assert labels.labels.tolist() == [OUTLIER, 0, 1, OUTLIER, 1]
    assert labels.weights.tolist() == [0, 1, 1, 0, 1]
    np.testing.assert_array_equal(labels.uncertainty, [np.nan, 0.5, np.nan, np.nan, 2])
    assert labels.num_classes == 2 and labels.uncertainty.dtype == np.float32


def test_weigh__multiplies_by_the_exponential_where_there_is_an_uncertainty():
    labels = make_pseudo_labels(np.array([0, 1, 1, OUTLIER]), np.eye(4, dtype=np.float32))
    half = replace(labels, weights=labels.weights / 2)
    uncertainty = np.array([0, np.log(4), np.nan, np.nan], dtype=np.float32)
    weighed = half.weigh(uncertainty)
    assert weighed.weights == pytest.approx([0.5, 0.125, 0.5, 0])
    assert weighed.weights.dtype == np.float32 and weighed.uncertainty is uncertainty
    assert half.weights.tolist() == [0.5, 0.5, 0.5, 0]
