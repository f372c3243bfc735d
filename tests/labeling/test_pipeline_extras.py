"""What refiners read beside the views, and the uncertainties they leave, on their way through."""

from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.camera_normalization import normalize_per_camera, normalize_rows
from fastreid_uda.labeling.clustering import DBSCAN, KMeans
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.refiners.inclr import INCLR
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.refiners.p2lr import P2LR
from fastreid_uda.labeling.types import OUTLIER, make_pseudo_labels
from fastreid_uda.labeling.uncertainty import divergence_from_ideal
from tests.helpers import make_features


def labeler(*refiners, **changes):
    options = {"distance": Jaccard(k1=6, k2=2), "eps": FixedEps(0.6), "clusterer": DBSCAN(2)}
    return PseudoLabeler(**(options | changes), refiners=refiners)


def make_set(**extras):
    features, _ = make_features(noise=0.4)
    return replace(features, extras=extras)


def student(features):
    rng = np.random.default_rng(4)
    noise = 0.3 * rng.normal(size=features.views["global"].shape)
    return (features.views["global"] + noise).astype(np.float32)


CONSISTENCY = P2LR(criterion="consistency")
ONE_VIEW = INCLR(lgmr=False)


def test_extras__are_the_union_over_the_refiners():
    both = labeler(CONSISTENCY, MSPLR(), P2LR(criterion="internal"), ONE_VIEW)
    assert both.extras == ("student/global", "unnormalized/global")
    assert labeler(P2LR(), MSPLR()).extras == labeler().extras == ()


def test_extras__of_a_refiner_that_only_names_them():
    class Refiner:
        extras = ("student/global",)

        def refine(self, inputs):
            return inputs.clusters

    assert labeler(Refiner()).extras == ("student/global",)
    with pytest.raises(UserError, match=r"or change UDA\.REFINERS"):
        labeler(Refiner())(make_set())


def test_missing_extra__is_found_before_the_first_stage():
    seen = []
    with pytest.raises(UserError, match="INCLR needs the array 'student/global'"):
        labeler(ONE_VIEW)(make_set(), observe=seen.append)
    assert not seen


def test_extra_that_is_not_finite__raises_or_drops_the_image():
    features = make_set()
    x = student(features)
    x[17, 3] = np.nan
    features = replace(features, extras={"student/global": x})
    with pytest.raises(UserError, match=r"1 of 96 images are not finite \(rows 17\)"):
        labeler(ONE_VIEW)(features)
    labels = labeler(ONE_VIEW, non_finite="drop")(features).labels["global"]
    assert labels.labels[17] == OUTLIER and np.isnan(labels.uncertainty[17])
    without = np.arange(96) != 17
    rest = labeler(ONE_VIEW)(features.subset(without)).labels["global"]
    np.testing.assert_array_equal(labels.uncertainty[without], rest.uncertainty)
    assert np.isfinite(rest.uncertainty[rest.kept]).all()


def test_extra_that_nobody_reads__may_be_anything():
    features = make_set(**{"student/global": np.full((96, 3), np.nan, np.float32)})
    assert labeler(P2LR())(features, 0, 1).labels["global"].kept.any()


def test_p2lr__measures_the_features_that_were_clustered():
    features, _ = make_features(noise=0.2)
    options = {"clusterer": KMeans(num_clusters=12), "camera_normalization": True}
    labeling = labeler(P2LR(p0=0.5), **options)(features, 0, 2)
    raw, refined = labeling.clusters["global"], labeling.labels["global"]
    x = normalize_rows(normalize_per_camera(features.views["global"], features.camera_ids))
    expected = divergence_from_ideal(x, make_pseudo_labels(raw.labels, x), 20.0, 0.99)
    assert refined.uncertainty == pytest.approx(expected, abs=1e-5)
    assert refined.kept.sum() == 48
    assert refined.uncertainty[refined.kept].max() <= refined.uncertainty[~refined.kept].min()


@pytest.mark.parametrize("round_index,kept", [(0, 28), (1, 53), (4, 96)])
def test_p2lr__keeps_more_in_each_round(round_index, kept):
    features, _ = make_features(noise=0.2)
    labels = labeler(P2LR(), clusterer=KMeans(num_clusters=12))(features, round_index, 5)
    assert labels.labels["global"].kept.sum() == kept


def test_refiner_after_p2lr__sees_its_labels():
    features, _ = make_features(noise=0.2)
    labels = labeler(P2LR(), MSPLR(), clusterer=KMeans(num_clusters=12))(features, 1, 5)
    part = labels.labels["global"]
    assert 0 < part.kept.sum() < 53 and (~np.isnan(part.uncertainty)).all()
    assert np.bincount(part.labels[part.kept]).min() >= 4
