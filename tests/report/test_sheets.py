import numpy as np
import pytest

from fastreid_uda.report.run_folder import RoundArrays
from fastreid_uda.report.sheets import (
    OF_A_SHEET,
    doubtful_clusters,
    example_clusters,
    fragmented_identities,
    group,
)


def arrays(labels, clusters=None, silhouette=None, **facts):
    labels = np.array(labels)
    silhouettes = {} if silhouette is None else {"global": np.array(silhouette, np.float16)}
    return RoundArrays(
        0, {"global": labels}, {"global": labels if clusters is None else np.array(clusters)},
        silhouettes, {}, {name: np.array(x) for name, x in facts.items()},
    )  # fmt: skip


def drawn(seed=0, images=120, identities=True, uncertainty=False):
    rng = np.random.default_rng(seed)
    clusters = rng.integers(-1, 8, size=images)
    labels = np.where(rng.random(images) < 0.2, -1, clusters)
    facts = {"identities": (clusters + (rng.random(images) < 0.3)) % 8} if identities else {}
    if uncertainty:
        facts["uncertainty"] = rng.random(images)
    return arrays(labels, clusters, rng.random(images), **facts)


def test_group__dropped_images_belong_to_the_label_of_their_cluster():
    # Cluster 4 became label 0, cluster 5 nothing; image 6 is an outlier of the clusterer.
    groups = group(arrays([0, 0, -1, 1, 1, -1, -1], [4, 4, 4, 7, 7, 5, -1], np.arange(7)))
    assert groups.owner.tolist() == [0, 0, 0, 1, 1, -1, -1]
    assert groups.kept.tolist() == [True, True, False, True, True, False, False]
    assert groups.measure == "silhouette" and np.isnan(groups.certainty[[5, 6]]).all()
    assert groups.images(0).tolist() == [2, 1, 0] and groups.right is None


def test_group__right_is_by_the_majority_of_the_kept_images():
    groups = group(arrays([0, 0, 0, -1, -1], [0] * 5, identities=[3, 3, 4, 4, 3]))
    assert groups.right.tolist() == [True, True, False, False, True]
    assert groups.measure == "" and np.isnan(groups.certainty).all()


def test_group__uncertainty_goes_before_silhouettes():
    groups = group(arrays([0, 0, 0], silhouette=[1, 1, 1], uncertainty=[0.5, np.nan, np.inf]))
    assert groups.measure == "uncertainty" and groups.certainty[0] == -0.5
    assert np.isnan(groups.certainty[1:]).all()


@pytest.mark.parametrize("uncertainty", [False, True])
def test_examples__most_and_least_certain_of_each(uncertainty):
    groups = group(drawn(uncertainty=uncertainty))
    shown = example_clusters(groups, 4)
    assert len(shown) == 4
    means = [entry["certainty"] for entry in shown]
    assert means == sorted(means, reverse=True)
    for entry in shown:
        values = groups.certainty[groups.owner == entry["cluster"]]
        ordered = sorted(values.tolist(), reverse=True)
        assert entry["certainty"] == pytest.approx(np.mean(values))
        half = OF_A_SHEET // 2
        assert groups.certainty[entry["most"]].tolist() == ordered[:half]
        assert groups.certainty[entry["least"]].tolist() == ordered[-half:]
    assert example_clusters(group(arrays([0, 0])), 4) == [] == example_clusters(groups, 0)


def test_examples__a_small_cluster_shows_each_image_once():
    shown = example_clusters(group(arrays([0, 0, 0, 1], silhouette=[3, 1, 2, 0])), 5)
    assert [entry["most"] for entry in shown] == [[0, 2], [3]]
    assert [entry["least"] for entry in shown] == [[1], []]


def test_doubtful__with_identities_those_with_most_wrong_images():
    data = drawn()
    groups, people = group(data), data.fact("identities")
    shown = doubtful_clusters(groups, 3)

    def wrong(cluster):
        held = people[data.labels["global"] == cluster].tolist()
        return len(held) - max(held.count(p) for p in held)

    counts = sorted((wrong(k) for k in range(8)), reverse=True)
    assert [entry["wrong"] for entry in shown] == counts[:3]
    for entry in shown:
        assert entry["wrong"] == wrong(entry["cluster"]) and len(entry["rows"]) <= OF_A_SHEET
        assert not groups.right[entry["rows"]].all() and groups.right[entry["rows"]].any()
        held = people[data.labels["global"] == entry["cluster"]]
        assert entry["identities"] == len(set(held.tolist()))
    assert doubtful_clusters(group(arrays([0, 0, 1], identities=[5, 5, 6])), 3) == []


def test_doubtful__images_without_identity_are_no_strangers():
    people = [5] * 8 + [6] * 2 + [-1] * 4
    groups = group(arrays([0] * 14, identities=people))
    assert groups.right.tolist() == [True] * 8 + [False] * 6
    (entry,) = doubtful_clusters(groups, 3)
    assert entry["wrong"] == 2 and entry["identities"] == 2
    assert entry["rows"] == [*range(8), 8, 9]
    groups = group(arrays([0] * 3, identities=[-1, 5, 6]))
    assert doubtful_clusters(groups, 3)[0]["rows"] == [1, 2, 0]  # shown, but last


def test_doubtful__without_identities_the_least_certain():
    groups = group(drawn(identities=False))
    shown = doubtful_clusters(groups, 3)
    means = {k: groups.certainty[groups.owner == k].mean() for k in range(8)}
    assert [entry["cluster"] for entry in shown] == sorted(means, key=means.get)[:3]
    assert "wrong" not in shown[0]
    assert [len(e["rows"]) for e in shown] == [min(OF_A_SHEET, e["images"]) for e in shown]


def test_pieces__equal_a_loop():
    data = drawn()
    labels, people = data.labels["global"], data.fact("identities")
    shown = fragmented_identities(group(data), 4)
    counts = {p: len(set(labels[(people == p) & (labels >= 0)])) for p in range(8)}
    assert [len(p["pieces"]) for p in shown] == sorted(counts.values(), reverse=True)[:4]
    for person in shown:
        for piece in person["pieces"]:
            own = (people == person["identity"]) & (labels == piece["cluster"])
            assert piece["images"] == own.sum() and own[piece["rows"]].all()
    assert fragmented_identities(group(arrays([0, 0, 1], identities=[5, 5, -1])), 4) == []
    assert fragmented_identities(group(arrays([0])), 4) == []
