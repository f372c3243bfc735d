import logging

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.clustering import DBSCAN, KMeans
from fastreid_uda.labeling.collapse import check_trainable
from fastreid_uda.labeling.distances import Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.eps import FixedEps, Rho
from fastreid_uda.labeling.pipeline import LabelingCollapse, PseudoLabeler
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.refiners.secret import SECRET
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels
from tests.helpers import make_features


def labeler(**changes):
    options = {"distance": Jaccard(k1=6, k2=2), "eps": FixedEps(0.6), "clusterer": DBSCAN(2)}
    return PseudoLabeler(**(options | changes))


def three_views(**options):
    """(FeatureSet, identities): the same people, more noise and fewer dimensions in each view."""
    features, identities = make_features(**options)
    x, rng = features.views["global"], np.random.default_rng(9)
    top, bottom = (x + s * rng.normal(size=x.shape).astype(np.float32) for s in (0.1, 0.3))
    views = {"global": x, "top": top[:, :24], "bottom": bottom[:, :16]}
    return FeatureSet(views, features.camera_ids), identities


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def partition(labels):
    """The set of clusters, each a set of images."""
    return {frozenset(np.flatnonzero(labels == k)) for k in set(labels.tolist()) - {OUTLIER}}


@pytest.mark.parametrize(
    "distance,eps", [(Jaccard(8, 2), 0.6), (Cosine(), 0.5), (Euclidean(), 1.0)]
)
def test_pipeline__finds_separate_clusters(distance, eps):
    features, identities = make_features(noise=0.1)
    labeling = labeler(distance=distance, eps=FixedEps(eps), camera_normalization=True)(features)
    assert partition(labeling.labels["global"].labels) == partition(identities)


def test_pipeline__kmeans_uses_no_distances():
    features, identities = make_features(noise=0.05)
    labeling = labeler(clusterer=KMeans(num_clusters=12), distance=None)(features)
    assert partition(labeling.labels["global"].labels) == partition(identities)
    assert labeling.eps == {}


def test_pipeline__permuting_images_permutes_labels():
    features, _ = make_features(noise=0.4, seed=5)
    order = np.random.default_rng(0).permutation(features.num_images)
    shuffled = FeatureSet({"global": features.views["global"][order]}, features.camera_ids[order])
    first = labeler(refiners=(MSPLR(),))(features).labels["global"].labels
    second = labeler(refiners=(MSPLR(),))(shuffled).labels["global"].labels
    assert partition(first[order]) == partition(second)


def test_pipeline__keeps_the_eps_of_the_first_round():
    features, _ = make_features()
    first = labeler(eps=Rho(0.05))(features)
    again = labeler(eps=Rho(0.2))(features, 1, 2, kept_eps=first.eps)
    assert again.eps == first.eps
    anew = labeler(eps=Rho(0.2), eps_update="every")(features, 1, 2, kept_eps=first.eps)
    assert anew.eps["global"] > first.eps["global"]


def test_pipeline__input_is_not_changed():
    features, _ = make_features()
    before = features.views["global"].copy()
    labeler(camera_normalization=True, refiners=(MSPLR(),))(features)
    assert (features.views["global"] == before).all()


def test_pipeline__centroids_are_in_the_space_of_the_network():
    features, _ = make_features()
    part = labeler(camera_normalization=True)(features).labels["global"]
    mean = unit(features.views["global"])[part.labels == 0].mean(axis=0)
    assert part.centroids[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_features__raise_or_drop(value):
    features, _ = make_features(noise=0.1)
    features.views["global"][17, 3] = value
    with pytest.raises(UserError, match=r"1 of 96 images are not finite \(rows 17\)"):
        labeler()(features)
    labels = labeler(non_finite="drop")(features).labels["global"]
    assert labels.labels[17] == OUTLIER and labels.weights[17] == 0
    without = np.delete(np.arange(96), 17)
    rest = FeatureSet({"global": features.views["global"][without]}, features.camera_ids[without])
    assert (labels.labels[without] == labeler()(rest).labels["global"].labels).all()


def test_all_features_nan__raises_even_when_dropping():
    features = FeatureSet({"global": np.full((30, 4), np.nan, np.float32)})
    with pytest.raises(UserError, match="30 of 30"):
        labeler(non_finite="drop")(features)


@pytest.mark.parametrize("images", [0, 1])
def test_too_few_images__raise(images):
    with pytest.raises(UserError, match="target set has"):
        labeler()(FeatureSet({"global": np.ones((images, 4), np.float32)}))


def test_zero_feature__warns_and_is_alone(caplog):
    features, _ = make_features(noise=0.1)
    features.views["global"][5] = 0
    with caplog.at_level(logging.WARNING):
        labels = labeler(distance=Cosine(), eps=FixedEps(0.4))(features).labels["global"].labels
    assert labels[5] == OUTLIER
    assert "1 feature rows are zero" in caplog.text


def test_all_noise__collapses_with_counts_and_key():
    rng = np.random.default_rng(0)
    features = FeatureSet({"global": rng.normal(size=(40, 64)).astype(np.float32)})
    with pytest.raises(LabelingCollapse, match=r"found 0 cluster.*change UDA\.CLUSTER\.EPS"):
        labeler(distance=Cosine(), eps=FixedEps(0.01))(features)


def test_one_cluster__collapses():
    features = FeatureSet({"global": np.ones((20, 4), np.float32)})
    with pytest.raises(LabelingCollapse, match="found 1 cluster"):
        labeler(distance=Cosine())(features)


def test_refiner_drops_everything__names_the_refiners():
    features, _ = make_features()
    with pytest.raises(LabelingCollapse, match=r"left 0 cluster\(s\) of 0 image.*UDA\.REFINERS"):
        labeler(refiners=(MSPLR(min_images=1000),))(features)


def test_camera_normalization__without_cameras_says_so():
    features = FeatureSet(make_features()[0].views)
    with pytest.raises(UserError, match="UDA.CAMERA_NORMALIZATION needs them"):
        labeler(camera_normalization=True)(features)


def test_giant_cluster__warns(caplog):
    features, _ = make_features(num_identities=3, images=60, noise=0.05)
    with caplog.at_level(logging.WARNING):
        labeler(distance=Cosine(), eps=FixedEps(0.3))(features)
    assert "look at UDA.CLUSTER.EPS" in caplog.text


def test_stages__are_timed_and_observed():
    seen = []
    labeling = labeler()(make_features()[0], observe=seen.append)
    assert seen == list(PseudoLabeler.STAGES) == list(labeling.seconds)


@pytest.mark.parametrize("images", [2, 5, 25, 26, 29, 30, 31])
@pytest.mark.parametrize("distance", [Jaccard(), Cosine(), Euclidean()])
def test_few_images__label_or_say_why(images, distance):
    features = FeatureSet(
        {"global": np.random.default_rng(1).normal(size=(images, 8)).astype(np.float32)}
    )
    try:
        labels = labeler(distance=distance, eps=Rho())(features).labels["global"]
    except UserError:  # a collapse, or no distance that eps could be taken from
        return
    assert len(labels.labels) == images


def test_views__are_clustered_by_themselves_and_refined_together():
    features, _ = three_views(noise=0.6)
    labeling = labeler(eps=Rho(0.05), refiners=(SECRET(),))(features)
    assert list(labeling.labels) == list(labeling.eps) == ["global", "top", "bottom"]
    assert len(set(labeling.eps.values())) == 3
    for view, x in features.views.items():
        alone = labeler(eps=Rho(0.05))(FeatureSet({"global": x}))
        assert (labeling.clusters[view].labels == alone.clusters["global"].labels).all()
        assert labeling.eps[view] == alone.eps["global"]


def test_join_views__clusters_the_concatenation():
    features, _ = three_views(noise=0.6)
    labeling = labeler(join_views=True)(features)
    joined = np.concatenate([unit(x) for x in features.views.values()], axis=1) / np.sqrt(3)
    joined = joined.astype(np.float32)
    expected = DBSCAN(2).cluster(joined, Jaccard(k1=6, k2=2).measure(joined), 0.6, 0)
    for view, part in labeling.labels.items():
        assert (part.labels == expected).all()
        mean = unit(features.views[view])[expected == 0].mean(axis=0)
        assert part.centroids[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    separate = labeler()(features).labels
    assert any((separate[view].labels != expected).any() for view in separate)


def test_join_views__measures_once():
    class Counting(Jaccard):
        calls = 0

        def measure(self, features, camera_ids=None, round_index=0, limit=None):
            Counting.calls += 1
            assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
            return super().measure(features, camera_ids, round_index)

    features, _ = three_views()
    labeling = labeler(distance=Counting(6, 2), eps=Rho(0.05), join_views=True)(features)
    assert Counting.calls == 1
    assert list(labeling.eps) == list(features.views) and len(set(labeling.eps.values())) == 1


def test_join_views__kmeans_and_camera_normalization():
    features, identities = three_views(noise=0.05)
    options = {"clusterer": KMeans(num_clusters=12), "distance": None, "camera_normalization": True}
    labels = labeler(join_views=True, **options)(features).labels
    assert all(partition(part.labels) == partition(identities) for part in labels.values())


def test_join_views__changes_nothing_for_one_view():
    features, _ = make_features(noise=0.6)
    one, joined = labeler()(features), labeler(join_views=True)(features)
    assert (one.labels["global"].labels == joined.labels["global"].labels).all()
    assert (one.labels["global"].centroids == joined.labels["global"].centroids).all()
    assert one.near_eps == joined.near_eps


def test_check_views__asks_the_refiners():
    labeler(refiners=(MSPLR(),)).check_views(("global",))
    labeler(refiners=(MSPLR(), SECRET())).check_views(("global", "top"))
    with pytest.raises(UserError, match="SECRET compares views"):
        labeler(refiners=(MSPLR(), SECRET())).check_views(("global",))


def test_views_without_common_images__collapse_with_counts():
    x = np.eye(8, dtype=np.float32)
    labels = {
        "global": make_pseudo_labels(np.array([0, 0, 1, 1, 2, -1, -1, -1]), x),
        "top": make_pseudo_labels(np.array([-1, -1, -1, 0, -1, 0, 1, 1]), x),
    }
    with pytest.raises(
        LabelingCollapse,
        match=r"Of 8 images 5 in 'global', 4 in 'top' are kept, but in all views only 1, with "
        r"1 class\(es\) of view 'global'.*change UDA\.REFINERS or UDA\.CLUSTER\.EPS\.",
    ):
        check_trainable(labels, labels, {})
    check_trainable({"global": labels["global"]}, {"global": labels["global"]}, {})
