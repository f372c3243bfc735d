import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastreid_uda import compiled
from fastreid_uda.labeling import uncertainty
from fastreid_uda.labeling.types import OUTLIER, PseudoLabels, make_pseudo_labels, renumber
from fastreid_uda.labeling.uncertainty import (
    distance_to_centroid,
    divergence_between,
    divergence_from_ideal,
    uncertainty_memory,
)


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def labels_of(labels, centroids):
    return PseudoLabels(
        np.array(labels), np.asarray(centroids, np.float32), np.ones(len(labels), np.float32)
    )


def random_labels(seed, num=40, classes=7, dim=6):
    rng = np.random.default_rng(seed)
    x = unit(rng.normal(size=(num, dim)))
    labels, _ = renumber(rng.integers(-1, classes, size=num))
    return x, make_pseudo_labels(labels, x)


def softmax(scores):
    """Class by class, in plain floats."""
    largest = max(scores)
    powers = [math.exp(s - largest) for s in scores]
    return [power / sum(powers) for power in powers]


def loop_kl(q, p):
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True) if a > 0)


TOY = unit(np.array([[1, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0], [1, 1, 1]]))
TOY_LABELS = labels_of([0, 0, 0, 2], np.eye(3))


def test_from_ideal__values_of_an_independent_calculation():
    u = divergence_from_ideal(TOY, TOY_LABELS, 20.0, 0.99)
    # More confidence than 0.99 costs: the first image is its centroid, the second is less certain.
    assert u == pytest.approx([0.137067, 0.055217, 3.995217, 1.035679], abs=1e-6)


@pytest.mark.parametrize("classes,u", [(500, 0.081873), (700, 0.078503), (1500, 0.070876)])
def test_from_ideal__image_on_one_of_orthonormal_centroids(classes, u):
    x = np.eye(classes, dtype=np.float32)
    got = divergence_from_ideal(x[:3], labels_of([0, 1, 2], x), 20.0, 0.99)
    assert got == pytest.approx(u, abs=1e-6)


def test_from_ideal__uniform_prediction():
    x = np.zeros((1, 500), np.float32)
    u = divergence_from_ideal(x, labels_of([3], np.eye(500)), 20.0, 0.99)
    assert u == pytest.approx(6.096481, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1.0, 20.0, 50.0]),
    peak=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_from_ideal__equals_a_loop_over_images(seed, scale, peak):
    x, labels = random_labels(seed, num=12, classes=5)
    got = divergence_from_ideal(x, labels, scale, peak)
    for n, label in enumerate(labels.labels):
        if label == OUTLIER:
            assert math.isnan(got[n])
            continue
        p = softmax([scale * float(w @ x[n].astype(float)) for w in labels.centroids])
        q = [peak if k == label else (1 - peak) / (len(p) - 1) for k in range(len(p))]
        assert got[n] == pytest.approx(loop_kl(q, p), abs=3e-7 * scale)


def test_from_ideal__peak_1_is_the_cross_entropy():
    u = divergence_from_ideal(TOY, TOY_LABELS, 20.0, 1.0)
    p = [softmax(20.0 * x.astype(float)) for x in TOY]
    assert u == pytest.approx([-math.log(p[n][y]) for n, y in enumerate([0, 0, 0, 2])], abs=1e-12)


def test_from_ideal__is_zero_where_prediction_and_ideal_are_the_same():
    # Two orthonormal centroids: p = 0.99 where the scores differ by ln 99.
    x = np.array([[math.log(99), 0]])
    assert divergence_from_ideal(x, labels_of([0], np.eye(2)), 1.0, 0.99) == pytest.approx(0)


def test_from_ideal__one_class_is_certain():
    x, labels = random_labels(0, classes=1)
    u = divergence_from_ideal(x, labels, 20.0, 0.99)
    assert (u[labels.kept] == 0).all() and np.isnan(u[~labels.kept]).all()


def test_from_ideal__large_scores_stay_finite():
    x = 1e4 * np.eye(3)
    u = divergence_from_ideal(x, labels_of([0, 0, 1], np.eye(3)), 20.0, 0.99)
    assert u == pytest.approx([2e5 * 0.01, 2e5 * 0.995, 2e5 * 0.995], rel=1e-4)


def test_between__values_of_an_independent_calculation():
    labels = labels_of([0], np.eye(2))
    teacher, student = np.array([[1.0, 0.0]]), np.array([[0.8, 0.6]])
    divergence = divergence_between(teacher, student, labels, 20.0)
    assert divergence == pytest.approx(0.018150, abs=1e-6)
    assert np.exp(-divergence) == pytest.approx(0.982014, abs=1e-6)
    assert divergence_between(student, teacher, labels, 20.0) == pytest.approx(0.269629, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1.0, 20.0, 60.0]))
def test_between__equals_a_loop_over_images(seed, scale):
    x, labels = random_labels(seed, num=12, classes=5)
    others = unit(x + 0.5 * np.random.default_rng(seed).normal(size=x.shape))
    got = divergence_between(x, others, labels, scale)
    for n in range(len(x)):
        p, other = (
            softmax([scale * float(w @ f[n].astype(float)) for w in labels.centroids])
            for f in (x, others)
        )
        expected = loop_kl(p, other) if labels.kept[n] else math.nan
        assert got[n] == pytest.approx(expected, abs=3e-7 * scale, nan_ok=True)


def test_between__equal_features_do_not_diverge():
    x, labels = random_labels(3)
    assert (divergence_between(x, x, labels, 20.0)[labels.kept] == 0).all()


def test_distance__equals_a_loop():
    x, labels = random_labels(1)
    got = distance_to_centroid(x, labels)
    for n, label in enumerate(labels.labels):
        expected = math.dist(x[n], labels.centroids[label]) if label != OUTLIER else math.nan
        assert got[n] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def in_float64(x, others, labels, scale, peak):
    """The formulas in double precision, with arrays (N, K)."""

    def log_softmax(f):
        scores = scale * (f.astype(np.float64) @ labels.centroids.astype(np.float64).T)
        return scores - np.log(np.exp(scores - scale).sum(axis=1, keepdims=True)) - scale

    log_p, log_other = log_softmax(x), log_softmax(others)
    q = np.full(log_p.shape, (1 - peak) / (log_p.shape[1] - 1))
    q[np.arange(len(q)), labels.labels] = peak
    return (q * (np.log(q) - log_p)).sum(axis=1), (np.exp(log_p) * (log_p - log_other)).sum(axis=1)


@pytest.mark.parametrize("switch", ["0", "1"])
@pytest.mark.parametrize("scale", [20.0, 50.0])
def test_products_in_float32__are_accurate_enough(monkeypatch, switch, scale):
    monkeypatch.setenv(compiled.SWITCH, switch)
    rng = np.random.default_rng(0)
    x = unit(np.abs(rng.normal(size=(300, 2048))))  # scores of 0.6 to 1, as after a ReLU
    labels = make_pseudo_labels(np.arange(300) % 90, x)
    others = unit(x + 0.3 * np.abs(rng.normal(size=x.shape)))
    ideal, between = in_float64(x, others, labels, scale, 0.99)
    got = divergence_from_ideal(x, labels, scale, 0.99)
    np.testing.assert_allclose(got, ideal, rtol=0, atol=1e-6 * scale)
    got = divergence_between(x, others, labels, scale)
    np.testing.assert_allclose(got, between, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("scale", [1.0, 20.0, 200.0])
def test_kernels__equal_numpy(monkeypatch, scale):
    x, labels = random_labels(11, num=150, classes=9)
    x[3] = 0
    results = []
    for switch in "10":
        monkeypatch.setenv(compiled.SWITCH, switch)
        results.append([divergence_from_ideal(x, labels, scale, 0.9),
                        divergence_between(x, x[::-1], labels, scale)])  # fmt: skip
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-12)


def test_uncertainty_memory__does_not_grow_with_images_times_classes():
    assert uncertainty_memory(10**6, 2048, 50_000) < 0.9e9
    more = uncertainty_memory(10**6, 2048, 1500) - uncertainty_memory(10**5, 2048, 1500)
    assert more == 48 * 900_000


MEASURES = [
    lambda x, labels: divergence_from_ideal(x, labels, 20.0, 0.99),
    lambda x, labels: divergence_between(x, x[::-1], labels, 20.0),
    distance_to_centroid,
]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("entries", [1, 3 * 7, 16 * 7])
def test_blocks__do_not_change_the_result(monkeypatch, measure, entries):
    x, labels = random_labels(5)
    whole = measure(x, labels)
    monkeypatch.setattr(uncertainty, "_BLOCK_ENTRIES", entries)
    # A product with one row may be summed in another order than one with many.
    assert measure(x, labels) == pytest.approx(whole, abs=3e-7 * 20, nan_ok=True)


@pytest.mark.parametrize("measure", MEASURES)
def test_outliers__take_no_part(measure):
    x, labels = random_labels(6)
    some = labels.drop(np.arange(len(x)) % 2 == 0)
    expected = np.where(some.kept, measure(x, labels), np.nan)
    assert measure(x, some) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("measure", MEASURES)
def test_no_class_at_all__nothing_is_measured(measure):
    x = np.ones((3, 2), np.float32)
    assert np.isnan(measure(x, labels_of([OUTLIER] * 3, np.empty((0, 2))))).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_inputs__are_not_modified(measure):
    x, labels = random_labels(7)
    before = x.copy(), labels.labels.copy(), labels.centroids.copy()
    measure(x, labels)
    assert (x == before[0]).all()
    assert (labels.labels == before[1]).all() and (labels.centroids == before[2]).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_class_without_images_and_centroid__is_no_class(measure):
    x, labels = random_labels(8)
    shifted = np.where(labels.labels >= 2, labels.labels + 1, labels.labels)
    gap = replace(labels, labels=shifted, centroids=np.insert(labels.centroids, 2, 0, axis=0))
    assert measure(x, gap) == pytest.approx(measure(x, labels), abs=1e-12, nan_ok=True)


def test_class_without_images__counts_if_it_has_a_centroid():
    x, labels = random_labels(9)
    fewer = labels.drop(labels.labels == 2)
    expected = np.where(fewer.kept, divergence_from_ideal(x, labels, 20.0, 0.99), np.nan)
    got = divergence_from_ideal(x, fewer, 20.0, 0.99)
    assert got == pytest.approx(expected, abs=1e-12, nan_ok=True)
