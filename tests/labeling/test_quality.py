import itertools

import numpy as np
import pytest

from fastreid_uda.labeling.quality import describe_labels, label_stability, score_against_identities
from fastreid_uda.labeling.types import make_pseudo_labels


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
