"""A camera with one image, a single camera, clusters of one camera."""

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.collapse import LabelingCollapse
from fastreid_uda.labeling.eps import CrossCamera
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.types import OUTLIER, FeatureSet
from tests.faults.labelers import DISTANCES, line_labeler, make_labeler, on_a_line
from tests.helpers import make_features


def of_cameras(cameras):
    """Few people; the last image is the only one of a camera of its own, if there are several."""
    features, _ = make_features(num_identities=6, noise=0.1)
    camera_ids = np.arange(features.num_images) % max(1, cameras - 1)
    camera_ids[-1] = cameras - 1
    return FeatureSet(features.views, camera_ids)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("rows", [True, False])
def test_camera_with_one_image__gives_finite_labels(distance, rows):
    eps = CrossCamera(0.05)
    labeler = make_labeler(distance, eps=eps, camera_normalization=True, row_normalization=rows)
    labeling = labeler(of_cameras(3))
    part = labeling.labels["global"]
    assert np.isfinite(part.centroids).all() and part.num_classes >= 2
    if rows and distance in ("Cosine", "Euclidean"):
        assert part.labels[-1] == OUTLIER  # a zero row, at the same distance from all others


def test_single_camera__is_normalized_like_any_other():
    labeling = make_labeler("Cosine", camera_normalization=True)(of_cameras(1))
    assert labeling.kept_after["clustering"]["global"]["clusters"] >= 2


@pytest.mark.parametrize(
    "changes,sentence",
    [
        ({"eps": CrossCamera()}, r"1 camera\(s\).*CrossCamera measures between cameras; set it to"),
        ({"refiners": (MSPLR(),)}, r"1 camera\(s\).*set UDA\.MSPLR\.MIN_CAMERAS to 1"),
        ({"distance": "CAJaccard"}, r"1 camera\(s\).*CAJaccard.*set it to Jaccard"),
    ],
)
def test_single_camera__is_refused_where_cameras_are_compared(changes, sentence):
    labeler = make_labeler(**changes)
    with pytest.raises(UserError, match=sentence):
        labeler(of_cameras(1))
    with pytest.raises(UserError, match=sentence):
        labeler.check_cameras(of_cameras(1).camera_ids)  # and before a run starts


@pytest.mark.parametrize(
    "camera_ids,counts,key",
    [
        ([0, 0, 0, 0, 1, 1, 1, 1], "MIN_IMAGES left 2 of 8, MSPLR.MIN_CAMERAS left 0 of 0",
         "UDA.MSPLR.MIN_CAMERAS"),
        ([0, 0, 0, 1, 1, 1, 1, 1], "MIN_IMAGES left 2 of 8, MSPLR.MIN_CAMERAS left 1 of 4",
         "UDA.MSPLR.MIN_CAMERAS"),
    ],
)  # fmt: skip
def test_clusters_of_one_camera__collapse_with_the_counts_of_each_filter(camera_ids, counts, key):
    features = on_a_line([0, 0.1, 0.2, 0.3, 9, 9.1, 9.2, 9.3], camera_ids)
    with pytest.raises(LabelingCollapse) as error:
        line_labeler(refiners=(MSPLR(),))(features)
    assert counts in str(error.value) and f"change {key}, " in str(error.value)


def test_clusters_below_k__collapse_with_the_key_of_that_filter():
    features = on_a_line([0, 0.1, 0.2, 9, 9.1, 9.2], [0, 1] * 3)
    with pytest.raises(LabelingCollapse, match=r"MSPLR\.MIN_IMAGES left 0 of 0.*UDA\.MSPLR\.MIN_I"):
        line_labeler(min_samples=2, refiners=(MSPLR(),))(features)
