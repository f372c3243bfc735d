import itertools
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.labeling.label_silhouettes import OF_CENTROIDS, OF_PAIRS, LabelSilhouettes
from fastreid_uda.labeling.pipeline import Labeling
from fastreid_uda.labeling.quality import (
    describe_labeling,
    describe_labels,
    label_accuracy,
    label_consistency,
    label_stability,
    score_against_identities,
)
from fastreid_uda.labeling.types import make_pseudo_labels


def labeling_of(labels, clusters=None, eps=None):
    def records(views):
        x = np.eye(10, dtype=np.float32)
        return {v: make_pseudo_labels(np.array(y), x[: len(y)]) for v, y in views.items()}

    return Labeling(records(labels), records(clusters or labels), eps or {}, {}, {"cluster": 1.0})


def loop_over_clusters(labels, reference):
    """The paper's accuracy, on the images that have both labels."""
    shares = []
    for k in set(labels) - {-1}:
        answers = [reference[i] for i in range(len(labels)) if labels[i] == k]
        answers = [a for a in answers if a != -1]
        if answers:
            shares.append(max(answers.count(a) for a in answers) / len(answers))
    return sum(shares) / len(shares) if shares else 0.0


def test_describe_labels__counts():
    labels = make_pseudo_labels(np.array([0, 0, 1, -1, 1, 1]), np.eye(6, dtype=np.float32))
    counts = describe_labels(labels, np.array([0, 1, 2, 0, 2, 2]))
    assert counts == {"clusters": 2, "outliers": 1, "kept": 5, "largest": 3, "cross_camera": 0.5}


def test_scores__perfect_labels_up_to_names():
    scores = score_against_identities(np.array([1, 1, 0, 0, -1]), np.array([7, 7, 3, 3, 3]))
    assert all(value == pytest.approx(1.0) for value in scores.values())


def test_pair_scores__equal_a_loop_over_pairs():
    rng = np.random.default_rng(3)
    labels, people = rng.integers(-1, 6, size=60), rng.integers(0, 8, size=60)
    together = both = apart = 0
    for i, j in itertools.combinations(np.flatnonzero(labels >= 0), 2):
        same_cluster, same_person = labels[i] == labels[j], people[i] == people[j]
        both += same_cluster and same_person
        together += same_cluster
        apart += same_person
    scores = score_against_identities(labels, people)
    assert scores["pair_precision"] == pytest.approx(both / together)
    assert scores["pair_recall"] == pytest.approx(both / apart)


def test_scores__nothing_kept():
    assert score_against_identities(np.array([-1, -1]), np.array([0, 1])) == {}


def test_label_stability__counts_only_images_kept_in_both():
    before, now = np.array([0, 0, 1, 1, -1]), np.array([5, 5, 2, 2, 2])
    assert label_stability(before, now) == {"stability_ari": 1.0, "kept_change": 0.25}


def test_label_stability__nothing_in_common():
    stability = label_stability(np.array([0, -1]), np.array([-1, 0]))
    assert stability == {"stability_ari": 0.0, "kept_change": 0.0}


def test_label_accuracy__counts_clusters_alike_and_purity_images():
    labels, people = np.array([0, 0, 0, 0, 1, 1, -1]), np.array([5, 5, 5, 6, 7, 8, 9])
    assert label_accuracy(labels, people) == pytest.approx((3 / 4 + 1 / 2) / 2)
    scores = score_against_identities(labels, people)
    assert scores["accuracy"] == label_accuracy(labels, people)
    assert scores["purity"] == pytest.approx(4 / 6)


def test_label_accuracy__ignores_outliers_of_either():
    first, second = np.array([0, 0, 1, -1, 2]), np.array([0, -1, 1, 1, -1])
    assert label_accuracy(first, second) == 1.0  # cluster 2 has no image left: it does not count
    assert label_accuracy(second, first) == 1.0
    assert label_accuracy(np.array([0, -1]), np.array([-1, 0])) == 0.0


@pytest.mark.parametrize("seed", range(10))
def test_accuracy_and_consistency__equal_loops(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(-1, 5, size=40), rng.integers(-1, 7, size=40)
    forward = loop_over_clusters(first.tolist(), second.tolist())
    backward = loop_over_clusters(second.tolist(), first.tolist())
    assert label_accuracy(first, second) == pytest.approx(forward)
    assert label_consistency(first, second) == pytest.approx((forward + backward) / 2)
    assert label_consistency(first, second) == label_consistency(second, first)


def test_record__of_one_view_counts_its_labels():
    record = describe_labeling(labeling_of({"global": [0, 0, 1, -1]}, eps={"global": 0.5}))
    assert {k: record[k] for k in ("clusters", "kept", "outliers", "eps")} == {
        "clusters": 2, "kept": 3, "outliers": 1, "eps": 0.5,
    }  # fmt: skip
    assert record["quality"] == {"largest": 2, "single_image": 1}


def test_record__of_several_views_counts_the_training_set():
    labels = {"global": [0, 0, 1, 1, 2, -1], "top": [0, 0, 1, 1, -1, 0], "low": [0, 0, 0, 0, 0, 0]}
    clusters = labels | {"top": [0, 1, 0, 1, 0, 0]}
    people = np.array([3, 3, 4, 4, 5, 5])
    eps = {"global": 0.5, "top": 0.6, "low": 0.7}
    record = describe_labeling(labeling_of(labels, clusters, eps), identities=people)
    quality = record["quality"]
    # image 4 is an outlier of "top", so cluster 2 of "global" is not trained
    assert (record["clusters"], record["kept"], record["outliers"]) == (2, 4, 2)
    assert (quality["global/clusters"], quality["global/kept"], quality["top/kept"]) == (3, 5, 5)
    assert (record["eps"], quality["top/eps"], quality["low/eps"]) == (0.5, 0.6, 0.7)
    assert "global/eps" not in quality
    assert quality["accuracy"] == 1.0 and quality["low/accuracy"] == pytest.approx(1 / 3)
    pairs = {
        name: quality[f"consistency/{name}"] for name in ("global-top", "global-low", "top-low")
    }
    assert pairs == {
        "global-top": 1.0,
        "global-low": pytest.approx((1 + 2 / 5) / 2),
        "top-low": pytest.approx((1 + 3 / 5) / 2),
    }
    assert quality["consistency"] == pytest.approx(sum(pairs.values()) / 3)
    assert 0 < quality["clusters/consistency"] < quality["consistency"]


def test_record__says_how_well_uncertainty_finds_wrong_labels():
    clusters = {"global": [0, 0, 0, 1, 1, -1], "top": [0, 0, 0, 1, 1, 1]}
    labeling = labeling_of({"global": [0, -1, -1, 1, 1, -1], "top": [0] * 6}, clusters)
    uncertainty = np.array([1, 2, 6, 3, 4, np.nan], np.float32)
    labels = {v: replace(part, uncertainty=uncertainty) for v, part in labeling.labels.items()}
    record = describe_labeling(
        replace(labeling, labels=labels), identities=np.array([3, 3, 4, 5, 6, 6])
    )
    # Cluster 0 is person 3, cluster 1 person 5, the smaller of two; dropped images count too.
    scores = {name: x for name, x in record["quality"].items() if "uncertainty" in name}
    assert scores == {
        "uncertainty/auc": 1.0, "uncertainty/mean": pytest.approx(3.2),
        "uncertainty/right": 2.0, "uncertainty/wrong": 5.0,
    }  # fmt: skip


def test_record__without_identities_has_the_mean_uncertainty_only():
    labeling = labeling_of({"global": [0, 0, 1, 1]})
    uncertainty = np.array([0, 1, np.nan, 2], np.float32)
    part = replace(labeling.labels["global"], uncertainty=uncertainty)
    quality = describe_labeling(replace(labeling, labels={"global": part}))["quality"]
    assert quality == {"largest": 2, "uncertainty/mean": 1.0}


def test_record__mean_weight_of_the_training_set_unless_all_are_1():
    labeling = labeling_of({"global": [0, 0, 1, 1, -1], "top": [0, 0, 1, -1, 1]})
    assert "weight/mean" not in describe_labeling(labeling)["quality"]
    weights = np.array([1, 0.5, 0.3, 0.1, 0], np.float32)
    labels = labeling.labels | {"global": replace(labeling.labels["global"], weights=weights)}
    quality = describe_labeling(replace(labeling, labels=labels))["quality"]
    assert quality["weight/mean"] == pytest.approx(0.6)


def test_record__mean_silhouettes_under_the_name_of_their_kind():
    labeling = labeling_of({"global": [0, 0, 1, -1], "top": [0, 0, 1, -1]})
    clusters = np.array([0.5, 0.1, 0.3, np.nan], np.float32)
    labels = np.array([0.5, np.nan, 0.4, np.nan], np.float32)
    silhouettes = {
        "global": LabelSilhouettes(OF_PAIRS, clusters, labels),
        "top": LabelSilhouettes(OF_CENTROIDS, clusters, np.full(4, np.nan)),
    }
    quality = describe_labeling(replace(labeling, silhouettes=silhouettes))["quality"]
    assert {k: v for k, v in quality.items() if "silhouette" in k} == {
        "silhouette": pytest.approx(0.45), "clusters/silhouette": pytest.approx(0.3),
        "top/clusters/silhouette/centroids": pytest.approx(0.3),
    }  # fmt: skip


def test_record__noise_and_pairs_by_camera_with_identities_and_cameras():
    labeling = labeling_of({"global": [0, 0, 1, 1]})
    people = np.array([3, 3, 3, 4])
    quality = describe_labeling(labeling, np.array([0, 1, 0, 0]), people)["quality"]
    assert quality["noise/mixed"] == 0.25 and quality["noise/fragmented"] == 0.25
    assert quality["pair_precision/across_cameras"] == 1
    assert quality["pair_precision/within_camera"] == 0
    without = describe_labeling(labeling, None, people)["quality"]
    assert "noise/mixed" in without and not [name for name in without if "camera" in name]
