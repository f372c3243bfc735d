from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.quality import consistencies, label_accuracy
from fastreid_uda.labeling.refiners import ChecksViews, RefinerInputs
from fastreid_uda.labeling.refiners.secret import SECRET, agreeing
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, kept_in_all, make_pseudo_labels

# ten images, three views; the numbers of the global clusters are not those of their appearance
TOY = {
    "global": [1, 1, 1, 1, 0, 0, 0, 0, -1, -1],
    "top": [0, 0, 0, 1, 1, 1, 1, -1, 0, -1],
    "bottom": [0, 0, 1, 1, 1, 1, 0, 0, -1, 0],
}
GLOBAL_BY_TOP = [0, 0, 0, -1, 1, 1, 1, -1, -1, -1]  # 3 of 4 agree, 3 of 3 that top clusters
GLOBAL_BY_BOTTOM = [0, 0, 0, 0, 1, 1, 1, 1, -1, -1]  # two halves in each cluster: 2 > 0.4 * 4
TOP = [0, 0, 0, -1, 1, 1, 1, -1, -1, -1]
BOTTOM = [0, 0, 1, 1, 1, 1, 0, 0, -1, -1]


def make_inputs(labels):
    rng = np.random.default_rng(0)
    views, clusters = {}, {}
    for view, y in labels.items():
        x = rng.normal(size=(len(y), 5)).astype(np.float32)
        views[view] = x / np.linalg.norm(x, axis=1, keepdims=True)
        clusters[view] = make_pseudo_labels(np.array(y), views[view])
    return RefinerInputs(FeatureSet(views), FeatureSet(views), {}, clusters, {}, 0, 1)


def refine(labels, **options):
    return SECRET(**options).refine(make_inputs(labels))


def as_lists(refined):
    return {view: part.labels.tolist() for view, part in refined.items()}


def loop_over_clusters(target, reference, k, denominator):
    """Algorithm 2, line by line, with fractions."""
    keep = [False] * len(target)
    for label in set(target) - {OUTLIER}:
        members = [i for i, y in enumerate(target) if y == label]
        clustered = [i for i in members if reference[i] != OUTLIER]
        size = len(clustered if denominator == "valid" else members)
        for other in {reference[i] for i in clustered}:
            group = [i for i in clustered if reference[i] == other]
            if Fraction(len(group), size) > Fraction(str(k)):
                for i in group:
                    keep[i] = True
    return keep


@pytest.mark.parametrize(
    "target,reference,k,denominator,kept",
    [
        ([0] * 10, [0, 0, 0, 0, 1] + [-1] * 5, 0.4, "valid", "1111000000"),
        ([0] * 10, [0, 0, 0, 0, 1] + [-1] * 5, 0.4, "all", "0000000000"),
        ([0] * 5, [0, 0, 1, 1, 2], 0.4, "valid", "00000"),
        (
            [0] * 7 + [1] * 4 + [-1] * 2,
            [3, 5, 5, 5, 3, 5, 5, 0, 0, 2, 2, 5, 0],
            0.4, "valid", "0111011111100",
        ),
        ([0] * 5, [0, 0, 0, 1, 1], 0.39, "valid", "11111"),
    ],
)  # fmt: skip
def test_agreeing__examples_computed_with_the_code_of_the_authors(
    target, reference, k, denominator, kept
):
    keep = agreeing(np.array(target), np.array(reference), k, denominator)
    assert "".join(map(str, keep.astype(int))) == kept


@settings(max_examples=300, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 4)), max_size=60),
    k=st.sampled_from([0.1, 0.29, 0.3, 0.39, 0.4, 0.5, 0.7]),
    denominator=st.sampled_from(["valid", "all"]),
)
def test_agreeing__equals_a_loop_over_clusters(pairs, k, denominator):
    target, reference = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    expected = loop_over_clusters(target.tolist(), reference.tolist(), k, denominator)
    assert agreeing(target, reference, k, denominator).tolist() == expected


@pytest.mark.parametrize(
    "k,group,size", [(0.29, 29, 100), (0.7, 7, 10), (0.1, 1, 10), (0.3, 3, 10)]
)
def test_agreeing__a_tie_is_dropped_whatever_floats_say(k, group, size):
    reference = np.concatenate([np.zeros(group, int), np.arange(1, size - group + 1)])
    assert not agreeing(np.zeros(size, int), reference, k)[:group].any()
    one_more = np.concatenate([np.zeros(group + 1, int), np.arange(1, size - group)])
    assert agreeing(np.zeros(size, int), one_more, k)[: group + 1].all()


def test_agreeing__cluster_of_outliers_of_the_reference_is_dropped():
    assert not agreeing(np.zeros(4, int), np.full(4, OUTLIER), 0.4).any()
    assert len(agreeing(np.empty(0, int), np.empty(0, int), 0.4)) == 0


def test_secret__expected_labels_of_all_views():
    refined = refine(TOY)
    assert as_lists(refined) == {"global": GLOBAL_BY_TOP, "top": TOP, "bottom": BOTTOM}
    assert list(refined) == list(TOY)
    assert np.flatnonzero(kept_in_all(refined)).tolist() == [0, 1, 2, 4, 5, 6]


def test_secret__local_views_are_refined_by_the_unrefined_global_view():
    refined = refine(TOY)
    by_refined = agreeing(np.array(TOY["bottom"]), refined["global"].labels, 0.4)
    assert np.flatnonzero(by_refined).tolist() == [0, 1, 4, 5], "the toy must tell them apart"
    assert np.flatnonzero(refined["bottom"].kept).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "local_views,expected",
    [
        (("top", "bottom"), {"global": GLOBAL_BY_TOP, "top": TOP, "bottom": BOTTOM}),
        (("bottom",), {"global": GLOBAL_BY_BOTTOM, "top": TOY["top"], "bottom": BOTTOM}),
        (["top"], {"global": GLOBAL_BY_TOP, "top": TOP, "bottom": TOY["bottom"]}),
    ],
)
def test_secret__local_views_that_take_part(local_views, expected):
    assert as_lists(refine(TOY, local_views=local_views)) == expected


def test_secret__denominator_all_counts_outliers_of_the_reference():
    labels = {"global": [0] * 5 + [1, 1], "top": [0, 0, -1, -1, -1, 1, 1]}
    assert as_lists(refine(labels))["global"] == [0, 0, -1, -1, -1, 1, 1]
    # 2 of 5 is not more than 0.4
    assert as_lists(refine(labels, denominator="all"))["global"] == [-1] * 5 + [0, 0]


def test_secret__numbers_all_views_by_appearance_without_gaps():
    labels = {"global": [3, 3, 1, 1], "top": [0, 0, 1, 1], "bottom": [2, 2, 0, -1]}
    refined = refine(labels, local_views=("top",))
    assert as_lists(refined) == {
        "global": [0, 0, 1, 1], "top": [0, 0, 1, 1], "bottom": [0, 0, 1, -1],
    }  # fmt: skip
    assert [part.num_classes for part in refined.values()] == [2, 2, 2]


def test_secret__centroids_are_means_of_the_images_kept_in_that_view():
    inputs = make_inputs(TOY)
    for view, part in SECRET().refine(inputs).items():
        assert part.num_classes == part.labels.max() + 1
        for label, centroid in enumerate(part.centroids):
            mean = inputs.features.views[view][part.labels == label].mean(axis=0)
            assert centroid == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_secret__weights_of_kept_images_stay():
    inputs = make_inputs(TOY)
    weights = np.linspace(0.1, 1, 10, dtype=np.float32)
    clusters = {view: replace(part, weights=weights) for view, part in inputs.clusters.items()}
    for part in SECRET().refine(replace(inputs, clusters=clusters)).values():
        assert (part.weights == np.where(part.kept, weights, 0)).all()


@pytest.mark.parametrize("seed", range(5))
def test_mutual_refinement__raises_consistency_on_noisy_views(seed):
    rng = np.random.default_rng(seed)
    identities = rng.permutation(np.repeat(np.arange(30), 10))
    labels = {}
    for view in ("global", "top", "bottom"):
        fate = rng.random(300)
        noisy = np.where(fate < 0.3, rng.integers(30, size=300), identities)
        labels[view] = np.where(fate > 0.9, OUTLIER, noisy)
    inputs = make_inputs(labels)
    refined = SECRET().refine(inputs)
    raw_consistency = consistencies(inputs.clusters)["consistency"]
    assert consistencies(refined)["consistency"] > raw_consistency + 0.1
    for view, part in refined.items():
        assert label_accuracy(part.labels, identities) >= label_accuracy(labels[view], identities)
        assert part.kept.any()


@pytest.mark.parametrize(
    "views,local_views,sentence",
    [
        (["global"], (), r"'global' and at least one more, got \['global'\]; set MODEL\.HEADS"),
        (["top", "bottom"], (), r"got \['top', 'bottom'\]"),
        (
            ["global", "top", "bottom"], ("top", "bottm"),
            r"UDA\.SECRET\.LOCAL_VIEWS names 'bottm', but the views besides 'global' are: top, bot",
        ),
    ],
)  # fmt: skip
def test_check_views__says_what_is_needed(views, local_views, sentence):
    refiner = SECRET(local_views=local_views)
    assert isinstance(refiner, ChecksViews)
    with pytest.raises(UserError, match=sentence):
        refiner.check_views(views)
    with pytest.raises(UserError, match=sentence):
        refiner.refine(make_inputs({view: [0, 0, 1, 1] for view in views}))


def test_check_views__accepts_any_local_views():
    SECRET().check_views(("global", "top", "bottom"))
    SECRET(local_views=("upper",)).check_views(("upper", "global"))


@pytest.mark.parametrize(
    "options,sentence",
    [
        ({"k": 0}, r"UDA\.SECRET\.K is 0, but it must lie between"),
        ({"k": 1.0}, r"UDA\.SECRET\.K is 1\.0"),
        ({"k": float("nan")}, r"UDA\.SECRET\.K is nan"),
        ({"denominator": "paper"}, r"DENOMINATOR is 'paper'.*: valid, all"),
        ({"local_views": "bottom"}, r"LOCAL_VIEWS is 'bottom'"),
        ({"local_views": ("global", "top")}, r"LOCAL_VIEWS is \('global', 'top'\)"),
        ({"local_views": ("top", "top")}, r"LOCAL_VIEWS is \('top', 'top'\)"),
        ({"local_views": (1,)}, r"LOCAL_VIEWS is \(1,\)"),
    ],
)
def test_secret__refuses_values(options, sentence):
    with pytest.raises(UserError, match=sentence):
        SECRET(**options)
