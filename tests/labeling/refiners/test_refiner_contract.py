"""Promises that every registered refiner keeps."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.clustering import DBSCAN
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.refiners import REFINERS, NeedsExtras, RefinerInputs
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels
from tests.helpers import make_features

# The arguments under which a refiner is tried, where its defaults leave the toy's round as it is.
VARIANTS = {
    "NPLP": {"startup": {}, "correcting": {"startup_rounds": 0, "share": 0.5, "min_samples": 2}},
}


def make_inputs(order=None):
    """Three views of the same people, each with errors of its own, and the extras there are."""
    features, _ = make_features(noise=0.8, seed=1)
    rng = np.random.default_rng(2)
    views, distances, clusters = {}, {}, {}
    order = np.arange(features.num_images) if order is None else order
    for view in ("global", "top", "bottom"):
        x = features.views["global"]
        x = (x + 0.5 * rng.normal(size=x.shape).astype(np.float32))[order]
        views[view] = x / np.linalg.norm(x, axis=1, keepdims=True)
        distances[view] = Jaccard(k1=8, k2=2).measure(views[view])
        labels = DBSCAN(2).cluster(views[view], distances[view], 0.6, 0)
        clusters[view] = make_pseudo_labels(labels, views[view])
    noise = 0.1 * np.random.default_rng(3).normal(size=features.views["global"].shape)
    extras = {
        "student/global": views["global"] + noise[order].astype(np.float32),
        "unnormalized/global": 5 * views["global"],
    }
    given = FeatureSet(views, features.camera_ids[order], extras)
    return RefinerInputs(
        given, given, distances, clusters,
        dict.fromkeys(views, 0.6), round_index=1, num_rounds=3,
    )  # fmt: skip


def partition(labels):
    return {frozenset(np.flatnonzero(labels == k)) for k in set(labels.tolist()) - {OUTLIER}}


@pytest.fixture(
    params=[
        (name, variant) for name in sorted(REFINERS) for variant in VARIANTS.get(name, {"": {}})
    ],
    ids=lambda param: "-".join(filter(None, param)),
)
def refiner(request):
    name, variant = request.param
    return REFINERS.build(name, **VARIANTS.get(name, {}).get(variant, {}))


def test_toy__has_different_clusters_and_outliers_in_every_view():
    labels = [part.labels for part in make_inputs().clusters.values()]
    assert all((y == OUTLIER).any() and y.max() > 5 for y in labels)
    assert len({frozenset(partition(y)) for y in labels}) == 3


def test_refiner__keeps_views_and_length(refiner):
    inputs = make_inputs()
    refined = refiner.refine(inputs)
    assert list(refined) == list(inputs.clusters)
    for part in refined.values():
        assert len(part.labels) == inputs.features.num_images
        assert part.labels.dtype == np.int64
        assert part.kept.any()
        assert (part.weights[~part.kept] == 0).all()
        assert ((part.weights >= 0) & (part.weights <= 1)).all()


def test_refiner__does_not_change_its_inputs(refiner):
    inputs = make_inputs()
    before = copy.deepcopy(inputs)
    refiner.refine(inputs)
    for view in inputs.clusters:
        assert (inputs.clusters[view].labels == before.clusters[view].labels).all()
        assert (inputs.clusters[view].centroids == before.clusters[view].centroids).all()
        assert (inputs.clusters[view].weights == before.clusters[view].weights).all()
        assert (inputs.features.views[view] == before.features.views[view]).all()
    for name, x in inputs.features.extras.items():
        assert (x == before.features.extras[name]).all()


def test_refiner__is_deterministic(refiner):
    first, second = refiner.refine(make_inputs()), refiner.refine(make_inputs())
    for view in first:
        assert (first[view].labels == second[view].labels).all()
        assert (first[view].weights == second[view].weights).all()


def test_refiner__permuting_images_permutes_labels(refiner):
    order = np.random.default_rng(0).permutation(make_inputs().features.num_images)
    first, second = refiner.refine(make_inputs()), refiner.refine(make_inputs(order))
    for view in first:
        assert partition(first[view].labels[order]) == partition(second[view].labels)


def test_refiner__keeps_uncertainty_or_measures_anew(refiner):
    inputs = make_inputs()
    uncertainty = np.linspace(0, 1, inputs.features.num_images, dtype=np.float32)
    clusters = {v: replace(raw, uncertainty=uncertainty) for v, raw in inputs.clusters.items()}
    alone = refiner.refine(inputs)
    for view, part in refiner.refine(replace(inputs, clusters=clusters)).items():
        own = alone[view].uncertainty
        np.testing.assert_array_equal(part.uncertainty, uncertainty if own is None else own)


def test_refiner__names_its_extras(refiner):
    if not isinstance(refiner, NeedsExtras):
        return
    inputs = make_inputs()
    assert set(refiner.extras) <= set(inputs.features.extras)
    bare = replace(inputs, features=replace(inputs.features, extras={}))
    if refiner.extras:
        with pytest.raises(UserError, match=refiner.extras[0]):
            refiner.refine(bare)
    else:
        refiner.refine(bare)


def test_refiner__reads_only_the_distances_and_the_eps_that_it_asks_for(refiner):
    inputs = make_inputs()
    distances = inputs.distances if getattr(refiner, "uses_distances", False) else {}
    eps = inputs.eps if getattr(refiner, "uses_eps", False) else {}
    for view, part in refiner.refine(replace(inputs, distances=distances, eps=eps)).items():
        assert (part.labels == refiner.refine(inputs)[view].labels).all()


def test_refiner__outliers_stay_outliers(refiner):
    inputs = make_inputs()
    refined = refiner.refine(inputs)
    for view, raw in inputs.clusters.items():
        assert (refined[view].labels[raw.labels == OUTLIER] == OUTLIER).all()


def test_refiner__cites_its_paper(refiner):
    assert "Reference:" in type(refiner).__doc__


def test_refiner__without_any_cluster_gives_none(refiner):
    inputs = make_inputs()
    features = inputs.features
    nothing = np.full(features.num_images, OUTLIER)
    empty = {view: make_pseudo_labels(nothing, x) for view, x in features.views.items()}
    for part in refiner.refine(replace(inputs, clusters=empty)).values():
        assert part.num_classes == 0 and not part.kept.any()
