import itertools

import numpy as np
import pytest

from fastreid_uda.labeling.identity_scores import (
    mixed_and_fragmented,
    noise_shares,
    score_against_identities,
    score_pairs_by_camera,
)


def drawn(seed, images=70, clusters=6, people=8, cameras=3):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-1, clusters, images), rng.integers(-1, people, images),
        rng.integers(cameras, size=images),
    )  # fmt: skip


def loop_over_pairs(labels, people, cameras, across):
    together = in_clusters = in_persons = 0
    kept = np.flatnonzero((labels >= 0) & (people >= 0))
    for i, j in itertools.combinations(kept, 2):
        if (cameras[i] != cameras[j]) == across:
            same_cluster, same_person = labels[i] == labels[j], people[i] == people[j]
            together += same_cluster and same_person
            in_clusters += same_cluster
            in_persons += same_person
    return together / in_clusters, together / in_persons


@pytest.mark.parametrize("seed", range(5))
def test_pairs_by_camera__equal_a_loop(seed):
    three = drawn(seed)
    scores = score_pairs_by_camera(*three)
    for across, where in ((False, "within_camera"), (True, "across_cameras")):
        precision, recall = loop_over_pairs(*three, across)
        assert scores[f"pair_precision/{where}"] == pytest.approx(precision)
        assert scores[f"pair_recall/{where}"] == pytest.approx(recall)


def test_pairs_by_camera__what_has_no_pair_is_missing():
    labels, people = np.array([0, 0, 1]), np.array([5, 5, 5])
    assert score_pairs_by_camera(labels, people, np.zeros(3, int)) == {
        "pair_precision/within_camera": 1.0, "pair_recall/within_camera": pytest.approx(1 / 3),
    }  # fmt: skip
    assert score_pairs_by_camera(labels, people, np.array([0, 1, 1])) == {
        "pair_precision/across_cameras": 1.0, "pair_recall/across_cameras": 0.5,
        "pair_recall/within_camera": 0.0,
    }  # fmt: skip
    assert score_pairs_by_camera(np.array([-1]), np.array([0]), np.array([0])) == {}


def loop_over_images(labels, people):
    """Mixed and fragmented, by the words of the definition."""
    kept = [i for i in range(len(labels)) if labels[i] >= 0 and people[i] >= 0]

    def most_frequent(values):
        return min(values, key=lambda v: (-values.count(v), v))

    mixed, fragmented = set(), set()
    for i in kept:
        cluster = [int(people[j]) for j in kept if labels[j] == labels[i]]
        person = [int(labels[j]) for j in kept if people[j] == people[i]]
        mixed |= {i} if people[i] != most_frequent(cluster) else set()
        fragmented |= {i} if labels[i] != most_frequent(person) else set()
    return kept, mixed, fragmented


@pytest.mark.parametrize("seed", range(5))
def test_noise__equals_a_loop(seed):
    labels, people, _ = drawn(seed)
    kept, mixed, fragmented = loop_over_images(labels, people)
    shares = noise_shares(labels, people)
    assert shares["noise/mixed"] == pytest.approx(len(mixed) / len(kept))
    assert shares["noise/fragmented"] == pytest.approx(len(fragmented) / len(kept))
    assert shares["noise/both"] == pytest.approx(len(mixed & fragmented) / len(kept))
    purity = score_against_identities(labels, people)["purity"]
    assert shares["noise/mixed"] == pytest.approx(1 - purity)
    clusters = {k: {people[i] for i in kept if labels[i] == k} for k in set(labels[kept])}
    persons = {p: {labels[i] for i in kept if people[i] == p} for p in set(people[kept])}
    for name, groups in (("mixed_clusters", clusters), ("fragmented_identities", persons)):
        several = sum(len(group) > 1 for group in groups.values())
        assert shares[f"noise/{name}"] == pytest.approx(several / len(groups))


def test_noise__each_kind_by_itself():
    # Clusters 0 and 1 are one person in two pieces; cluster 2 is two people; 3 holds a stray of 7.
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, -1])
    people = np.array([5, 5, 5, 5, 5, 6, 6, 8, 9, 9, 7, 7, 7, 9])
    mixed, fragmented = mixed_and_fragmented(labels, people)
    assert np.flatnonzero(mixed).tolist() == [7, 10]
    assert np.flatnonzero(fragmented).tolist() == [3, 4, 10]
    assert noise_shares(labels, people) == {
        "noise/mixed": pytest.approx(2 / 13), "noise/fragmented": pytest.approx(3 / 13),
        "noise/both": pytest.approx(1 / 13), "noise/mixed_clusters": pytest.approx(2 / 5),
        "noise/fragmented_identities": pytest.approx(2 / 5),
    }  # fmt: skip


def test_noise__nothing_kept():
    assert noise_shares(np.array([-1, 0]), np.array([3, -1])) == {}
