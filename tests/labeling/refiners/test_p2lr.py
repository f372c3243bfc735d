import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.refiners import NeedsExtras
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.refiners.p2lr import CRITERIA, P2LR, criterion, selected_share
from fastreid_uda.labeling.refiners.secret import SECRET
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels
from tests.labeling.refiners.noisy_views import make_inputs, softmax, unit

EXTRAS = {
    "kl": (),
    "l2": (),
    "internal": ("unnormalized/global",),
    "consistency": ("student/global",),
}


def loop_over_images(name, inputs, alpha=20.0, epsilon=0.99):
    """u of the images that have a label in both views, one at a time."""
    features, labels = inputs.features, inputs.clusters["global"]
    w, u = labels.centroids.astype(float), []
    for n, y in enumerate(labels.labels):
        f = features.views["global"][n].astype(float)
        b, student = (features.extras[e][n].astype(float) for e in sorted(features.extras)[::-1])
        student /= np.linalg.norm(student)
        if y == OUTLIER or inputs.clusters["top"].labels[n] == OUTLIER:
            u.append(math.nan)
        elif name == "l2":
            u.append(math.dist(f, w[y]))
        else:
            p = softmax(w @ b) if name == "internal" else softmax(alpha * w @ f)
            q = np.full(len(w), (1 - epsilon) / (len(w) - 1))
            q[y] = epsilon
            if name == "consistency":
                p, q = softmax(alpha * w @ student), p
            u.append(sum(a * math.log(a / c) for a, c in zip(q, p, strict=True)))
    return np.array(u)


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_criterion__equals_a_loop_over_images(name):
    inputs = make_inputs()
    refined = P2LR(criterion=name).refine(inputs)
    expected = loop_over_images(name, inputs)
    for part in refined.values():
        assert part.uncertainty.dtype == np.float32
        assert part.uncertainty == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_criterion__doubts_labels_where_they_were_made():
    inputs = make_inputs()
    x = inputs.features.views["global"] * np.linspace(0.2, 3, 8, dtype=np.float32)
    other = {"global": unit(x), "top": inputs.features.views["top"]}
    moved = replace(inputs, clustered=FeatureSet(other))
    for name, decides in (("kl", True), ("l2", True), ("internal", False), ("consistency", False)):
        method = P2LR(criterion=name)
        assert np.array_equal(method.measure(moved), method.measure(inputs), equal_nan=True) != (
            decides
        )
    labels = inputs.clusters["global"].labels
    clusters = {**inputs.clusters, "global": make_pseudo_labels(labels, other["global"])}
    there = replace(inputs, features=FeatureSet(other), clusters=clusters)
    expected = P2LR().measure(replace(there, clustered=FeatureSet(other)))
    np.testing.assert_array_equal(P2LR().measure(moved), expected)


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_refine__keeps_the_least_uncertain_images_of_all_views(name):
    inputs = make_inputs(round_index=2)
    refined = P2LR(criterion=name).refine(inputs)
    u = loop_over_images(name, inputs)
    candidates = np.flatnonzero(~np.isnan(u))
    count = math.floor(selected_share(0.5, 0.3, 1.5) * len(candidates))
    expected = set(candidates[np.argsort(u[candidates])][:count])
    for view, part in refined.items():
        assert set(np.flatnonzero(part.kept)) == expected
        raw = inputs.clusters[view]
        assert (part.labels[part.kept] == raw.labels[part.kept]).all()
        assert part.centroids is raw.centroids
        assert (part.weights == part.kept).all()


@pytest.mark.parametrize("round_index,num_rounds", [(4, 5), (0, 1)])
def test_refine__last_round_keeps_all_candidates(round_index, num_rounds):
    inputs = make_inputs(round_index, num_rounds)
    for part in P2LR().refine(inputs).values():
        assert (part.kept == ~np.isnan(loop_over_images("l2", inputs))).all()


def test_refine__tiny_share_keeps_one():
    assert P2LR(p0=0.001).refine(make_inputs())["top"].kept.sum() == 1


def test_refine__images_with_the_same_features_are_kept_together():
    inputs = make_inputs(num=400)
    views = {view: np.tile(x[:50], (8, 1)) for view, x in inputs.features.views.items()}
    clusters = {v: make_pseudo_labels(np.arange(400) % 50 % 6, x) for v, x in views.items()}
    features = FeatureSet(views)
    same = replace(inputs, features=features, clustered=features, clusters=clusters)
    kept = P2LR(p0=0.31).refine(same)["top"].kept
    assert (kept.reshape(8, 50) == kept[:50]).all()
    assert kept[:50].sum() == 16  # 124 of 400 images, and the four that tie with the last


def test_reweight__drops_none_and_weighs_all():
    inputs = make_inputs()
    half = {v: replace(raw, weights=raw.weights / 2) for v, raw in inputs.clusters.items()}
    refined = P2LR(action="reweight").refine(replace(inputs, clusters=half))
    u = loop_over_images("kl", inputs)
    for view, part in refined.items():
        assert (part.labels == inputs.clusters[view].labels).all()
        expected = np.where(part.kept, np.where(np.isnan(u), 0.5, np.exp(-u) / 2), 0)
        assert part.weights == pytest.approx(expected, abs=1e-6)
        assert part.weights.dtype == np.float32


def test_first_view__decides_by_itself():
    inputs = make_inputs()
    alone = P2LR(criterion="kl").refine(inputs)
    shuffled = dict(inputs.features.views) | {"top": inputs.features.views["top"][::-1]}
    other = replace(inputs, features=replace(inputs.features, views=shuffled))
    for view, part in P2LR(criterion="kl").refine(other).items():
        assert (part.labels == alone[view].labels).all()


def test_one_class__is_certain():
    labels = {"global": [0] * 60, "top": [0] * 60}
    part = P2LR(p0=0.1).refine(make_inputs(labels=labels))["global"]
    assert (part.uncertainty == 0).all() and part.kept.all()


@pytest.mark.parametrize("action", ["select", "reweight"])
def test_outliers_only__stay_outliers(action):
    labels = {"global": [OUTLIER] * 60, "top": [OUTLIER] * 60}
    part = P2LR(action=action).refine(make_inputs(labels=labels))["global"]
    assert not part.kept.any() and np.isnan(part.uncertainty).all()


def test_epsilon_1__prefers_confidence():
    inputs = make_inputs(num_rounds=9)
    part = P2LR(epsilon=1.0).refine(inputs)["global"]
    w, x = part.centroids, inputs.features.views["global"]
    confidence = [softmax(20.0 * w @ f)[y] for f, y in zip(x, part.labels, strict=True)]
    u = part.uncertainty[part.kept]
    assert u == pytest.approx(-np.log(np.array(confidence)[part.kept]), abs=1e-5)


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_inputs__are_not_modified(name):
    inputs = make_inputs()
    before = copy.deepcopy(inputs)
    P2LR(criterion=name).refine(inputs)
    for kind in ("views", "extras"):
        for key, x in getattr(inputs.features, kind).items():
            assert (x == getattr(before.features, kind)[key]).all()
    for view, raw in inputs.clusters.items():
        assert (raw.labels == before.clusters[view].labels).all() and raw.uncertainty is None


def test_chain__p2lr_after_secret_selects_of_what_is_left():
    inputs = make_inputs(num_rounds=1)
    inputs = replace(inputs, clusters=SECRET().refine(inputs))
    refined = P2LR(p0=0.5).refine(replace(inputs, round_index=0, num_rounds=2))
    left = inputs.clusters["global"].kept & inputs.clusters["top"].kept
    assert (~np.isnan(refined["global"].uncertainty) == left).all()
    assert refined["top"].kept.sum() == left.sum() // 2


@pytest.mark.parametrize("following", [MSPLR(), SECRET(), P2LR(criterion="l2", p0=1.0)])
def test_chain__what_follows_keeps_weights_and_uncertainty(following):
    inputs = make_inputs()
    first = P2LR(action="reweight").refine(inputs)
    for view, part in following.refine(replace(inputs, clusters=first)).items():
        assert part.weights[part.kept] == pytest.approx(first[view].weights[part.kept])
        if isinstance(following, P2LR):  # it measures anew
            assert part.uncertainty == pytest.approx(
                loop_over_images("l2", inputs), abs=1e-6, nan_ok=True
            )
        else:
            np.testing.assert_array_equal(part.uncertainty, first[view].uncertainty)


def test_criterion__of_ones_own_is_one_function():
    @criterion("student/global")
    def first_number(method, seen):
        student = seen.extras["student/global"]
        return np.where(seen.labels.kept, abs(student[:, 0]), np.nan)

    try:
        refiner, inputs = P2LR(criterion="first_number"), make_inputs()
        u = refiner.refine(inputs)["global"].uncertainty
    finally:
        del CRITERIA["first_number"]
    assert refiner.criterion == "first_number"
    measured = ~np.isnan(u)
    assert u[measured] == pytest.approx(abs(inputs.features.extras["student/global"][measured, 0]))


def test_criterion__that_is_not_finite_is_a_defect():
    @criterion()
    def broken(method, seen):
        return np.full(len(seen.features), np.nan)

    try:
        with pytest.raises(ValueError, match="'broken' gave an uncertainty that is negative or"):
            P2LR(criterion="broken").refine(make_inputs())
    finally:
        del CRITERIA["broken"]


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_extras__are_those_of_the_criterion(name):
    refiner = P2LR(criterion=name)
    assert isinstance(refiner, NeedsExtras) and refiner.extras == EXTRAS[name]
    assert set(EXTRAS) == set(CRITERIA)


@pytest.mark.parametrize("name", ["internal", "consistency"])
def test_missing_extra__names_array_and_key(name):
    inputs = make_inputs()
    bare = replace(inputs, features=replace(inputs.features, extras={}))
    sentence = (
        rf"P2LR needs the array '{EXTRAS[name][0]}' beside the views \(there is global, top\); "
        r"add it to the feature file, or change UDA\.P2LR\.CRITERION\."
    )
    with pytest.raises(UserError, match=sentence):
        P2LR(criterion=name).refine(bare)


def test_extra_of_another_network__is_refused():
    inputs = make_inputs()
    extras = {"student/global": np.ones((60, 3), np.float32)}
    features = replace(inputs.features, extras=extras)
    with pytest.raises(UserError, match="'student/global' has 3 columns but 'global' has 8"):
        P2LR(criterion="consistency").refine(replace(inputs, features=features))


@pytest.mark.parametrize(
    "option,value,allowed",
    [
        ("criterion", "entropy", "the known values are: kl, l2, internal, consistency"),
        ("action", "drop", "the known values are: select, reweight"),
        ("alpha", 0.0, "above 0"),
        ("alpha", math.inf, "above 0"),
        ("epsilon", 0.0, "above 0 and at most 1"),
        ("epsilon", 1.01, "above 0 and at most 1"),
        ("p0", 0.0, "above 0 and at most 1"),
        ("p0", 1.1, "above 0 and at most 1"),
        ("p0", math.nan, "above 0 and at most 1"),
        ("h", -0.1, "0 or more"),
        ("h", math.inf, "0 or more"),
    ],
)
def test_options__are_checked(option, value, allowed):
    with pytest.raises(UserError, match=rf"UDA\.P2LR\.{option.upper()} is .*{allowed}"):
        P2LR(**{option: value})


def test_epsilon__must_make_the_label_the_most_probable_class():
    with pytest.raises(UserError, match=r"UDA\.P2LR\.EPSILON is 0\.1, but of 6 .* above 1/6"):
        P2LR(epsilon=0.1).refine(make_inputs())
    P2LR(epsilon=0.2).refine(make_inputs())
    P2LR(epsilon=0.1, criterion="l2").refine(make_inputs())
