"""Whatever the features and the stages: labels that keep their promises, or one sentence."""

import logging
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.quality import changed_images, describe_labeling
from fastreid_uda.labeling.types import OUTLIER, FeatureSet
from tests.faults.odd_features import LABELERS, feature_sets, label

RUNS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "disabled", True)


def assert_promises(labeling, features):
    """What training reads from the labels of a round."""
    assert list(labeling.labels) == list(labeling.clusters) == list(features.views)
    for view, part in labeling.labels.items():
        used = np.unique(part.labels[part.kept])
        assert part.labels.dtype == np.int64 and part.labels.shape == (features.num_images,)
        assert part.labels.min() >= OUTLIER and part.labels.max() < part.num_classes
        assert part.weights.shape == part.labels.shape
        assert ((part.weights >= 0) & (part.weights <= 1)).all()  # NaN is neither
        assert (part.weights[~part.kept] == 0).all()
        assert part.centroids.shape == (part.num_classes, features.views[view].shape[1])
        norms = np.linalg.norm(part.centroids[used].astype(np.float64), axis=1)
        # The mean of opposite or of zero rows has no direction.
        assert ((abs(norms - 1) < 1e-4) | (norms == 0)).all()
        assert np.isfinite(part.centroids).all()
        assert len(used) >= 2
    counts = labeling.kept_after
    assert [v["clusters"] for v in list(counts.values())[-1].values()] == [
        len(np.unique(part.labels[part.kept])) for part in labeling.labels.values()
    ]


@settings(max_examples=250, **RUNS)
@given(features=feature_sets(), labeler=LABELERS, round_index=st.integers(0, 2))
def test_pipeline__labels_keep_their_promises_or_one_sentence_says_why_not(
    features, labeler, round_index
):
    before = {name: x.copy() for name, x in {**features.views, **features.extras}.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = label(labeler, features, round_index=round_index, num_rounds=3)
        again = label(labeler, features, round_index=round_index, num_rounds=3)
    for name, x in {**features.views, **features.extras}.items():
        assert (x == before[name]).all()
    if isinstance(found, str):
        assert found == again
        assert "\n" not in found and found.endswith((".", ".)"))
        return
    assert_promises(found, features)
    for view, part in found.labels.items():
        assert np.array_equal(part.labels, again.labels[view].labels)
        assert np.array_equal(part.weights, again.labels[view].weights)
        assert np.array_equal(part.centroids, again.labels[view].centroids)
    describe_labeling(found, features.camera_ids, previous=again.labels)


@settings(max_examples=40, **RUNS)
@given(
    features=feature_sets(),
    labeler=LABELERS,
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    row=st.integers(0, 29),
)
def test_pipeline__an_image_that_is_not_finite_is_named_or_left_out(features, labeler, value, row):
    if features.num_images < 3:
        return
    row %= features.num_images
    spoilt = {view: x.copy() for view, x in features.views.items()}
    spoilt["global"][row, -1] = value
    found = label(labeler, FeatureSet(spoilt, features.camera_ids, features.extras))
    if labeler.non_finite == "raise" and isinstance(found, str):
        assert f"(rows {row})" in found or "not finite" not in found
        return
    rest = np.arange(features.num_images) != row
    expected = label(labeler, features.subset(rest))
    if isinstance(found, str):
        assert isinstance(expected, str)
        return
    assert_promises(found, features)
    for view, part in found.labels.items():
        assert part.labels[row] == OUTLIER
        assert np.array_equal(part.labels[rest], expected.labels[view].labels)


@settings(max_examples=60, **RUNS)
@given(features=feature_sets(), labeler=LABELERS)
def test_pipeline__the_radius_of_the_first_round_is_used_again(features, labeler):
    first = label(labeler, features)
    if isinstance(first, str) or isinstance(labeler.eps, FixedEps):
        return
    again = label(labeler, features, round_index=1, num_rounds=2, kept_eps=first.eps)
    if isinstance(again, str):
        return
    assert dict(again.eps) == dict(first.eps)


@settings(max_examples=300, **RUNS)
@given(pairs=st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=25))
def test_changed_images__equals_a_loop_over_images(pairs):
    previous, current = np.array(pairs).T

    def companions(labels, image):
        return None if labels[image] == OUTLIER else set(np.flatnonzero(labels == labels[image]))

    expected = sum(companions(previous, n) != companions(current, n) for n in range(len(pairs)))
    assert changed_images(previous, current) == expected
