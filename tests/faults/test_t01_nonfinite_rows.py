"""An image whose feature is NaN, infinite or zero. See also tests/labeling/test_pipeline.py."""

from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.engine import label_hooks
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.types import OUTLIER, FeatureSet
from tests.engine.training import make_trainer
from tests.faults.labelers import CLUSTERERS, DISTANCES, make_labeler
from tests.helpers import make_features

ROW = 17


def spoilt(value, view="global"):
    """The features with one odd row in one of two views, and the same without that image."""
    features = make_features(noise=0.1)[0]
    x = features.views["global"]
    views = {"global": x.copy(), "top": x[:, :20].copy()}
    views[view][ROW, 3] = value
    features = FeatureSet(views, features.camera_ids)
    return features, features.subset(np.arange(len(x)) != ROW)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("distance", DISTANCES)
def test_odd_row_of_the_second_view__is_left_out_of_all(value, distance):
    features, rest = spoilt(value, "top")
    labeler = make_labeler(distance, non_finite="drop", camera_normalization=True)
    found, expected = labeler(features), labeler(rest)
    for view, part in found.labels.items():
        assert part.labels[ROW] == OUTLIER and part.weights[ROW] == 0
        assert (np.delete(part.labels, ROW) == expected.labels[view].labels).all()
        assert np.isfinite(part.centroids).all()


@pytest.mark.parametrize("clusterer", CLUSTERERS)
def test_odd_row__is_dropped_with_every_clusterer_and_counted(clusterer):
    features, rest = spoilt(np.nan)
    labeler = make_labeler(clusterer=clusterer, non_finite="drop")
    found = labeler(features)
    assert found.labels["global"].labels[ROW] == OUTLIER
    assert found.kept_after == labeler(rest).kept_after
    with pytest.raises(UserError, match=rf"1 of 96 images are not finite \(rows {ROW}\)"):
        replace(labeler, non_finite="raise")(features)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("normalized", [True, False])
def test_zero_rows__leave_all_numbers_finite(distance, normalized):
    features = make_features(noise=0.1)[0]
    features.views["global"][[3, 40]] = 0
    found = make_labeler(distance, row_normalization=normalized)(features).labels["global"]
    assert np.isfinite(found.centroids).all()
    others = np.delete(found.labels, [3, 40])
    assert len(np.unique(others[others != OUTLIER])) >= 2


@pytest.mark.parametrize("distance", DISTANCES)
def test_zero_rows__are_a_cluster_of_their_own_but_for_cosine(distance):
    features = make_features(noise=0.1)[0]
    features.views["global"][:6] = 0
    labels = make_labeler(distance)(features).labels["global"].labels
    assert (labels[:6] == (OUTLIER if distance == "Cosine" else 0)).all()
    assert not np.isin(labels[6:], 0 if distance != "Cosine" else []).any()


@pytest.mark.parametrize("rest", [0, 1])
def test_drop__too_few_are_left_says_how_many_are_not_finite(rest):
    x = make_features()[0].views["global"][:80].copy()
    x[rest:] = np.inf
    with pytest.raises(
        UserError,
        match=rf"{80 - rest} of 80 images are not finite \(rows .*at least 2 others, not {rest}; ",
    ) as caught:
        make_labeler(non_finite="drop")(FeatureSet({"global": x}))
    assert "NON_FINITE" not in str(caught.value)


@pytest.mark.parametrize("policy", ["raise", "drop"])
def test_diverged_network__ends_the_run_with_the_round_and_writes_no_labels(
    market, monkeypatch, policy
):
    extract = label_hooks.extract_features

    def diverged(model, loader, images, extras):
        features = extract(model, loader, images, extras)
        nothing = features.map_views(lambda x: np.full_like(x, np.nan))
        return nothing if trainer.round else features

    monkeypatch.setattr(label_hooks, "extract_features", diverged)
    trainer = make_trainer(market, "UDA.NON_FINITE", policy, "SOLVER.MAX_EPOCH", "1")
    with pytest.raises(UserError, match=r"^Round 1: .*lower SOLVER\.BASE_LR"):
        trainer.train()
    assert [path.name for path in (market / "out/labels").glob("*.npz")] == ["round_000.npz"]
    assert [record["round"] for record in trainer.records] == [0]
    assert (market / "out/model_last.pth").exists()
