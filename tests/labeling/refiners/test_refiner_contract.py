"""Promises that every registered refiner keeps."""

import copy

import numpy as np
import pytest

from fastreid_uda.labeling.clustering import DBSCAN
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.refiners import REFINERS, RefinerInputs
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels
from tests.helpers import make_features


def make_inputs(order=None):
    features, _ = make_features(noise=1.0, seed=1)
    x, cameras = features.views["global"], features.camera_ids
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    if order is not None:
        x, cameras = x[order], cameras[order]
    distances = Jaccard(k1=8, k2=2).measure(x)
    clusters = make_pseudo_labels(DBSCAN(2).cluster(x, distances, 0.6, 0), x)
    return RefinerInputs(
        FeatureSet({"global": x}, cameras), {"global": distances}, {"global": clusters},
        {"global": 0.6}, round_index=1, num_rounds=3,
    )  # fmt: skip


def partition(labels):
    return {frozenset(np.flatnonzero(labels == k)) for k in set(labels.tolist()) - {OUTLIER}}


@pytest.fixture(params=sorted(REFINERS))
def refiner(request):
    return REFINERS.build(request.param)


def test_refiner__keeps_views_and_length(refiner):
    inputs = make_inputs()
    refined = refiner.refine(inputs)
    assert list(refined) == list(inputs.clusters)
    for part in refined.values():
        assert len(part.labels) == inputs.features.num_images
        assert part.labels.dtype == np.int64
        assert (part.weights[~part.kept] == 0).all()
        assert ((part.weights >= 0) & (part.weights <= 1)).all()


def test_refiner__does_not_change_its_inputs(refiner):
    inputs = make_inputs()
    before = copy.deepcopy(inputs)
    refiner.refine(inputs)
    for view in inputs.clusters:
        assert (inputs.clusters[view].labels == before.clusters[view].labels).all()
        assert (inputs.clusters[view].centroids == before.clusters[view].centroids).all()
        assert (inputs.features.views[view] == before.features.views[view]).all()


def test_refiner__is_deterministic(refiner):
    first, second = refiner.refine(make_inputs()), refiner.refine(make_inputs())
    for view in first:
        assert (first[view].labels == second[view].labels).all()
        assert (first[view].weights == second[view].weights).all()


def test_refiner__permuting_images_permutes_labels(refiner):
    order = np.random.default_rng(0).permutation(make_inputs().features.num_images)
    first, second = refiner.refine(make_inputs()), refiner.refine(make_inputs(order))
    assert partition(first["global"].labels[order]) == partition(second["global"].labels)


def test_refiner__outliers_stay_outliers(refiner):
    inputs = make_inputs()
    assert (inputs.clusters["global"].labels == OUTLIER).any(), "the toy must have outliers"
    refined = refiner.refine(inputs)["global"]
    assert (refined.labels[inputs.clusters["global"].labels == OUTLIER] == OUTLIER).all()


def test_refiner__cites_its_paper(refiner):
    assert "Reference:" in type(refiner).__doc__
