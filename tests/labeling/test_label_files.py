from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.feature_map import FeatureMap
from fastreid_uda.labeling.label_files import labeling_to_arrays, read_feature_set
from fastreid_uda.labeling.label_silhouettes import OF_PAIRS, LabelSilhouettes
from fastreid_uda.labeling.pipeline import Labeling
from fastreid_uda.labeling.types import make_pseudo_labels

X = np.random.default_rng(0).normal(size=(6, 4))


def test_views__global_first_and_the_others_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, top=X, camera_ids=np.arange(6), **{"global": X}, bottom=X[:, :2])
    features, identities = read_feature_set(path)
    assert list(features.views) == ["global", "top", "bottom"]
    assert features.views["bottom"].shape == (6, 2)
    assert features.views["top"].dtype == np.float32
    assert features.camera_ids.tolist() == [0, 1, 2, 3, 4, 5] and identities is None


def test_views__global_has_to_be_there(tmp_path):
    np.savez(tmp_path / "f.npz", top=X)
    with pytest.raises(UserError, match=r"'global' is missing \(there is 'top'\)"):
        read_feature_set(tmp_path / "f.npz")


def test_arrays__weights_are_those_of_the_training_set():
    labels = {
        "global": make_pseudo_labels(np.array([0, 0, 1, -1]), X[:4].astype(np.float32)),
        "top": make_pseudo_labels(np.array([0, -1, 1, 1]), X[:4].astype(np.float32)),
    }
    arrays = labeling_to_arrays(Labeling(labels, labels, {"global": 0.5, "top": 0.6}, {}, {}))
    assert arrays["weights"].tolist() == [1, 0, 1, 0]
    assert arrays["labels/top"].tolist() == [0, -1, 1, 1]
    assert {name for name in arrays if name.startswith("eps/")} == {"eps/global", "eps/top"}
    assert "uncertainty" not in arrays and "identities" not in arrays


def test_extras__are_float_arrays_with_a_slash_in_their_name(tmp_path):
    path = tmp_path / "f.npz"
    extras = {"student/global": X, "unnormalized/global": 2 * X}
    np.savez(path, **{"global": X, "top": X}, **extras)
    features, _ = read_feature_set(path)
    assert list(features.views) == ["global", "top"] and list(features.extras) == list(extras)
    assert features.extras["student/global"].dtype == np.float32


@pytest.mark.parametrize(
    "extra,sentence",
    [
        (X[:3], "'student/global' has 3 entries but 'global' has 6 rows"),
        (
            X.astype(int),
            "'student/global' is int64 .* but an array with '/' in its name is a float",
        ),
        (X[0], r"'student/global' is float64 of shape \(4,\)"),
    ],
)
def test_extras__are_checked(tmp_path, extra, sentence):
    np.savez(tmp_path / "f.npz", **{"global": X, "student/global": extra})
    with pytest.raises(UserError, match=sentence):
        read_feature_set(tmp_path / "f.npz")


def test_arrays__uncertainty_of_the_first_view_and_identities():
    part = make_pseudo_labels(np.array([0, 0, 1, -1]), X[:4].astype(np.float32))
    first = replace(part, uncertainty=np.array([0.5, 1, np.nan, np.nan], np.float32))
    labeling = Labeling({"global": first, "top": part}, {"global": part, "top": part}, {}, {}, {})
    arrays = labeling_to_arrays(labeling, np.array([7, 7, 8, 9]))
    np.testing.assert_array_equal(arrays["uncertainty"], first.uncertainty)
    assert arrays["identities"].tolist() == [7, 7, 8, 9]


def test_arrays__silhouettes_map_and_cameras_for_the_report():
    part = make_pseudo_labels(np.array([0, 0, 1, -1]), X[:4].astype(np.float32))
    clusters, labels = np.array([0.1, 0.25, 0.5, np.nan]), np.array([0.75, np.nan, 1, np.nan])
    labeling = Labeling(
        {"global": part}, {"global": part}, {}, {}, {},
        silhouettes={"global": LabelSilhouettes(OF_PAIRS, clusters, labels)},
        feature_map=FeatureMap(np.array([1, 3]), np.ones((2, 5), np.float16), 0.75),
    )  # fmt: skip
    arrays = labeling_to_arrays(labeling, camera_ids=np.array([2, 0, 1, 1]))
    assert arrays["silhouette/global"].tolist() == [0.75, 0.25, 1, 0]
    assert arrays["silhouette/global"].dtype == np.float16
    assert arrays["map/rows"].tolist() == [1, 3] and arrays["map/features"].shape == (2, 5)
    assert arrays["map/variance"] == 0.75
    assert arrays["camera_ids"].tolist() == [2, 0, 1, 1] and "identities" not in arrays
