import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.refiners import RefinerInputs
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels


def refine(labels, camera_ids, **options):
    x = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    clusters = {"global": make_pseudo_labels(np.array(labels), x)}
    cameras = None if camera_ids is None else np.array(camera_ids)
    features = FeatureSet({"global": x}, cameras)
    inputs = RefinerInputs(features, features, {}, clusters, {}, 0, 1)
    return MSPLR(**options).refine(inputs)["global"], clusters["global"]


def test_msplr__drops_small_and_single_camera_clusters_and_renumbers():
    #         0: 4 images, 1 camera | 1: 3 images, 2 cameras | 2: 4 images, 2 cameras | noise
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, -1]
    camera_ids = [3, 3, 3, 3, 0, 0, 1, 0, 0, 0, 1, 2]
    refined, raw = refine(labels, camera_ids)
    assert refined.labels.tolist() == [OUTLIER] * 7 + [0, 0, 0, 0, OUTLIER]
    assert (refined.centroids == raw.centroids[[2]]).all()
    assert refined.weights.tolist() == [0] * 7 + [1, 1, 1, 1, 0]


def test_msplr__equals_a_loop():
    rng = np.random.default_rng(2)
    labels, camera_ids = rng.integers(-1, 40, size=200), rng.integers(0, 3, size=200)
    labels = np.unique(labels, return_inverse=True)[1] - 1
    refined, _ = refine(labels, camera_ids)
    survivors = [
        k
        for k in range(labels.max() + 1)
        if (labels == k).sum() >= 4 and len(set(camera_ids[labels == k])) >= 2
    ]
    expected = [survivors.index(k) if k in survivors else OUTLIER for k in labels]
    assert refined.labels.tolist() == expected


def test_msplr__refuses_single_camera_data_with_the_key_to_change():
    with pytest.raises(UserError, match=r"1 camera\(s\).*UDA\.MSPLR\.MIN_CAMERAS to 1"):
        refine([0, 0, 0, 0, 1, 1, 1, 1], [0] * 8)
    refined, _ = refine([0, 0, 0, 0, 1, 1, 1, 1], [0] * 8, min_cameras=1)
    assert refined.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_msplr__without_camera_ids_says_so():
    with pytest.raises(UserError, match=r"UDA\.MSPLR\.MIN_CAMERAS to 1"):
        refine([0, 0, 0, 0], None)
    refined, _ = refine([0, 0, 0, 0, 1], None, min_cameras=1)
    assert refined.labels.tolist() == [0, 0, 0, 0, OUTLIER]


@pytest.mark.parametrize("field", ["min_images", "min_cameras"])
def test_msplr__refuses_zero(field):
    with pytest.raises(UserError, match=rf"UDA\.MSPLR\.{field.upper()} is 0"):
        MSPLR(**{field: 0})
