"""The same path twice in a list, and the same content under several names."""

import numpy as np
import pytest

from fastreid_uda.data.build import build_extraction_loader
from fastreid_uda.data.image_list import make_image_list
from fastreid_uda.engine.feature_extraction import extract_features
from fastreid_uda.labeling.eps import Rho
from fastreid_uda.labeling.types import FeatureSet
from tests.engine.training import make_trainer
from tests.faults.labelers import CLUSTERERS, DISTANCES, make_labeler
from tests.helpers import make_features


def test_same_path_twice__has_a_row_of_its_own_for_each_entry(market, heard):
    trainer = make_trainer(market)
    paths = [*trainer.images.paths[:5], trainer.images.paths[2], trainer.images.paths[2]]
    images = make_image_list([(path, None, "1") for path in paths], "Doubled")
    assert "more than once" in heard.text
    loader = build_extraction_loader(images, trainer.cfg)
    features = extract_features(trainer.model, loader, images).views["global"]
    alone = extract_features(
        trainer.model, build_extraction_loader(trainer.images, trainer.cfg), trainer.images
    ).views["global"]
    places = [trainer.images.paths.index(path) for path in images.paths]
    assert places == [0, 1, 2, 2, 2, 3, 4]
    np.testing.assert_allclose(features, alone[places], atol=1e-5)
    assert (features[2] == features[3]).all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("clusterer", CLUSTERERS)
def test_same_content__has_the_same_label_and_eps_is_above_zero(distance, clusterer):
    features, identities = make_features(num_identities=6, images=5, noise=0.1)
    twice = np.repeat(np.arange(len(identities)), 2)
    doubled = FeatureSet({"global": features.views["global"][twice]}, features.camera_ids[twice])
    labeling = make_labeler(distance, clusterer, eps=Rho(0.05))(doubled)
    labels = labeling.labels["global"].labels
    assert (labels[0::2] == labels[1::2]).all()
    assert all(eps > 0 for eps in labeling.eps.values())


@pytest.mark.parametrize("distance", DISTANCES)
def test_same_content__is_at_distance_zero(distance):
    features, _ = make_features(num_identities=6, images=5)
    x = features.views["global"]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[[4, 9]] = x[20]
    camera_ids = features.camera_ids.copy()
    camera_ids[[4, 9]] = camera_ids[20]
    distances = DISTANCES[distance][0].measure(x, camera_ids)
    full = np.concatenate([block for _, _, block in distances.row_blocks()])
    assert (full[np.ix_([4, 9, 20], [4, 9, 20])] == 0).all()
