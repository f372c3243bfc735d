import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.label_files import labeling_to_arrays, read_feature_set
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
