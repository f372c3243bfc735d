import copy
import logging
import math
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.refiners import ChecksViews, NeedsExtras
from fastreid_uda.labeling.refiners.inclr import INCLR
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.refiners.p2lr import P2LR
from fastreid_uda.labeling.refiners.secret import SECRET
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, kept_in_all, make_pseudo_labels
from tests.labeling.refiners.noisy_views import make_inputs, softmax

# ten images; the numbers of the global clusters are not those of their appearance
TOY = {
    "global": [1, 1, 1, 1, 0, 0, 0, 0, -1, -1],
    "top": [0, 0, 0, 1, 1, 1, 1, -1, 0, -1],
    "bottom": [0, 0, 1, 1, 1, 1, 0, 0, -1, 0],
}
# by top 3 of 4 agree in the one cluster, 3 of 3 in the other; by bottom all
SHARED = [0, 0, 0, -1, 1, 1, 1, -1, -1, -1]
UNREFINED = [0, 0, 0, 0, 1, 1, 1, 1, -1, -1]


def toy_inputs(labels):
    """Three views of 4, 3 and 2 dimensions; the students are the teachers."""
    rng = np.random.default_rng(0)
    views, clusters = {}, {}
    for dim, (view, y) in zip((4, 3, 2), labels.items(), strict=False):
        x = rng.normal(size=(len(y), dim)).astype(np.float32)
        views[view] = x / np.linalg.norm(x, axis=1, keepdims=True)
        clusters[view] = make_pseudo_labels(np.array(y), views[view])
    features = FeatureSet(views, extras={"student/global": views["global"]})
    return replace(make_inputs(), features=features, clusters=clusters)


def as_lists(refined):
    return {view: part.labels.tolist() for view, part in refined.items()}


def loop_over_images(inputs, refined, beta=20.0):
    """I of the images that all views keep, one at a time."""
    trained, inaccuracy = kept_in_all(refined), []
    v = refined["global"].centroids.astype(float)
    teachers = inputs.features.views["global"].astype(float)
    students = inputs.features.extras["student/global"].astype(float)
    for n in range(len(teachers)):
        p_teacher = softmax(beta * v @ teachers[n])
        p_student = softmax(beta * v @ students[n] / np.linalg.norm(students[n]))
        terms = [a * math.log(a / b) for a, b in zip(p_teacher, p_student, strict=True)]
        inaccuracy.append(sum(terms) if trained[n] else math.nan)
    return np.array(inaccuracy)


def test_lgmr__all_views_share_the_refined_global_labels():
    refined = INCLR().refine(toy_inputs(TOY))
    assert as_lists(refined) == dict.fromkeys(TOY, SHARED)


def test_lgmr__images_need_the_agreement_of_every_part():
    labels = TOY | {"bottom": [0, 1, 2, 3, 0, 0, 0, 0, 0, 0]}
    # every image of global cluster 1 is alone in bottom: 1 of 4 is not more than 0.4
    assert as_lists(INCLR().refine(toy_inputs(labels)))["top"] == [-1] * 4 + [0] * 3 + [-1] * 3
    # with k 0.2 all agree, but for image 7, which is an outlier of top
    kept = as_lists(INCLR(k=0.2).refine(toy_inputs(labels)))["top"]
    assert kept == [0, 0, 0, 0, 1, 1, 1, -1, -1, -1]


def test_lgmr__denominator_all_counts_outliers_of_the_parts():
    labels = {"global": [0] * 5 + [1, 1], "top": [0, 0, -1, -1, -1, 1, 1]}
    refined = INCLR(denominator="all").refine(toy_inputs(labels))
    assert as_lists(refined)["top"] == [-1] * 5 + [0, 0]


def test_shared__each_view_has_centroids_of_its_own():
    inputs = toy_inputs(TOY)
    for view, part in INCLR().refine(inputs).items():
        assert part.num_classes == 2
        for label, centroid in enumerate(part.centroids):
            mean = inputs.features.views[view][part.labels == label].mean(axis=0)
            assert centroid == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_per_branch__is_secret():
    inputs = toy_inputs(TOY)
    refined = INCLR(labels="per_branch").refine(inputs)
    assert as_lists(refined) == as_lists(SECRET().refine(inputs))


def test_without_lgmr__all_views_share_the_global_labels_as_they_are():
    assert as_lists(INCLR(lgmr=False).refine(toy_inputs(TOY))) == dict.fromkeys(TOY, UNREFINED)


def test_without_lgmr__each_branch_keeps_its_own():
    refined = INCLR(lgmr=False, labels="per_branch").refine(toy_inputs(TOY))
    assert as_lists(refined) == TOY


def test_without_igmo__nothing_is_weighed():
    for part in INCLR(igmo=False).refine(make_inputs()).values():
        assert part.uncertainty is None and (part.weights == part.kept).all()


def test_first_round__students_are_teachers_and_all_weights_are_1():
    for part in INCLR().refine(toy_inputs(TOY)).values():
        assert (part.weights == part.kept).all()
        assert part.uncertainty[part.kept] == pytest.approx(0, abs=1e-12)


def test_igmo__value_of_an_independent_calculation():
    inputs = toy_inputs({"global": [0, 1]})
    x = np.eye(2, dtype=np.float32)
    student = np.array([[0.8, 0.6], [0.0, 1.0]], np.float32)
    features = FeatureSet({"global": x}, extras={"student/global": student})
    clusters = {"global": make_pseudo_labels(np.array([0, 1]), x)}
    refiner = INCLR(lgmr=False)
    part = refiner.refine(replace(inputs, features=features, clusters=clusters))["global"]
    assert part.uncertainty == pytest.approx([0.018150, 0], abs=1e-6)  # KL(teacher || student)
    assert part.weights == pytest.approx([0.982014, 1], abs=1e-6)


@pytest.mark.parametrize("labels", ["shared", "per_branch"])
@pytest.mark.parametrize("beta", [5.0, 20.0, 60.0])
def test_igmo__equals_a_loop_over_images(labels, beta):
    inputs = make_inputs()
    refined = INCLR(labels=labels, beta=beta).refine(inputs)
    inaccuracy = loop_over_images(inputs, refined, beta)
    factor = np.where(np.isnan(inaccuracy), 1, np.exp(-inaccuracy))
    for part in refined.values():
        assert part.uncertainty == pytest.approx(inaccuracy, abs=1e-5, nan_ok=True)
        assert part.weights == pytest.approx(factor * part.kept, abs=1e-5)
        assert part.weights.dtype == np.float32


def test_igmo__beta_decides_how_much_students_count():
    inputs = make_inputs()
    means = [
        INCLR(beta=beta).refine(inputs)["global"].uncertainty for beta in (5.0, 20.0, 60.0)
    ]  # fmt: skip
    assert np.nanmean(means[0]) < np.nanmean(means[1]) < np.nanmean(means[2])


def test_igmo__warns_of_weights_near_zero(caplog):
    inputs = make_inputs()
    opposite = {"student/global": -inputs.features.views["global"]}
    inputs = replace(inputs, features=replace(inputs.features, extras=opposite))
    with caplog.at_level(logging.WARNING):
        refined = INCLR().refine(inputs)
    assert "the mean weight is" in caplog.text and "UDA.INCLR.BETA (20)" in caplog.text
    assert np.isfinite(refined["global"].weights).all()


def test_igmo__does_not_warn_of_an_empty_training_set(caplog):
    labels = {"global": [0, 0, 0], "top": [0, 1, 2]}
    with caplog.at_level(logging.WARNING):
        refined = INCLR().refine(toy_inputs(labels))
    assert not caplog.text and not refined["top"].kept.any()


def test_inputs__are_not_modified():
    inputs = make_inputs()
    before = copy.deepcopy(inputs)
    INCLR().refine(inputs)
    student = inputs.features.extras["student/global"]
    assert (student == before.features.extras["student/global"]).all()
    for view, raw in inputs.clusters.items():
        assert (raw.labels == before.clusters[view].labels).all() and raw.uncertainty is None
        assert (inputs.features.views[view] == before.features.views[view]).all()


def test_chain__weights_of_the_refiner_before_are_multiplied():
    inputs = make_inputs()
    first = P2LR(action="reweight").refine(inputs)
    refined = INCLR().refine(replace(inputs, clusters=first))
    plain = INCLR().refine(inputs)
    for view, part in refined.items():
        assert part.weights == pytest.approx(first["global"].weights * plain[view].weights)
        np.testing.assert_array_equal(part.uncertainty, plain[view].uncertainty)


def test_chain__msplr_after_inclr_keeps_weights_and_uncertainty():
    inputs = make_inputs()
    weighed = INCLR().refine(inputs)
    for view, part in MSPLR(min_images=6).refine(replace(inputs, clusters=weighed)).items():
        np.testing.assert_array_equal(part.uncertainty, weighed[view].uncertainty)
        assert (part.weights == np.where(part.kept, weighed[view].weights, 0)).all()


def test_extras__only_for_igmo():
    assert isinstance(INCLR(), NeedsExtras) and INCLR().extras == ("student/global",)
    assert INCLR(igmo=False).extras == ()
    inputs = make_inputs()
    bare = replace(inputs, features=replace(inputs.features, extras={}))
    sentence = r"INCLR needs the array 'student/global' .* or change UDA\.INCLR\.IGMO\."
    with pytest.raises(UserError, match=sentence):
        INCLR().refine(bare)
    INCLR(igmo=False).refine(bare)


@pytest.mark.parametrize(
    "views,sentence",
    [
        (["global"], r"there is none; set MODEL\.HEADS\.NAME .* or set UDA\.INCLR\.LGMR to False"),
        (["top", "bottom"], r"INCLR needs the view 'global', got \['top', 'bottom'\]"),
    ],
)
def test_check_views__says_what_is_needed(views, sentence):
    assert isinstance(INCLR(), ChecksViews)
    with pytest.raises(UserError, match=sentence):
        INCLR().check_views(views)


def test_check_views__one_view_is_enough_without_lgmr():
    INCLR(lgmr=False).check_views(["global"])
    refined = INCLR(lgmr=False).refine(toy_inputs({"global": [0, 0, 1, OUTLIER]}))
    assert as_lists(refined) == {"global": [0, 0, 1, OUTLIER]}


@pytest.mark.parametrize(
    "option,value,allowed",
    [
        ("k", 0.0, "between 0 and 1"),
        ("k", 1.0, "between 0 and 1"),
        ("beta", 0.0, "above 0"),
        ("beta", math.inf, "above 0"),
        ("denominator", "some", "the known values are: valid, all"),
        ("labels", "own", "the known values are: shared, per_branch"),
    ],
)
def test_options__are_checked(option, value, allowed):
    with pytest.raises(UserError, match=rf"UDA\.INCLR\.{option.upper()} is .*{allowed}"):
        INCLR(**{option: value})
