"""0, 1, 5, 25, 26, k1 - 1 and k1 images. See also tests/labeling/test_pipeline.py."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.distances import CAJaccard, Jaccard
from fastreid_uda.labeling.eps import Rho
from tests.faults.labelers import CLUSTERERS, make_labeler
from tests.helpers import make_features

K1 = 30
NUMBERS = [0, 1, 5, 25, 26, K1 - 1, K1]


def some_images(number):
    return make_features(num_identities=6, images=5, noise=0.1)[0].subset(np.arange(30) < number)


@pytest.mark.parametrize("images", NUMBERS)
@pytest.mark.parametrize("clusterer", CLUSTERERS)
def test_few_images__have_labels_or_a_sentence_with_their_number(images, clusterer):
    labeler = make_labeler(clusterer=clusterer, distance="Jaccard", eps=Rho())
    labeler = replace(labeler, distance=Jaccard(K1, 6, backend="numpy"))
    try:
        labeling = labeler(some_images(images))
    except UserError as error:
        assert images <= 5 or "clustering found" in str(error)
        assert f"{images} image" in str(error) or f"{images} target images" in str(error)
        return
    assert images >= 5 and len(labeling.labels["global"].labels) == images
    assert all(eps > 0 and math.isfinite(eps) for eps in labeling.eps.values())


@pytest.mark.parametrize("images", NUMBERS[2:])
@pytest.mark.parametrize(
    "distance", [Jaccard(K1, 6, backend="numpy"), CAJaccard(K1, K1, backend="numpy")]
)
def test_fewer_images_than_neighbors__every_image_is_at_zero_from_itself(images, distance):
    features = some_images(images)
    x = features.views["global"]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    measured = distance.measure(x, features.camera_ids)
    full = np.concatenate([block for _, _, block in measured.row_blocks()])
    assert (np.diag(full) == 0).all() and (full == full.T).all()
    assert full.min() == 0 and full.max() <= 1


@pytest.mark.parametrize("images", [0, 1])
def test_no_pair_of_images__says_so_before_anything_is_measured(images):
    with pytest.raises(UserError, match=rf"target set has {images} image.*at least 2; check"):
        make_labeler(eps=Rho())(some_images(images))
