import numpy as np
import pytest

from fastreid_uda.labeling.uncertainty_scores import (
    has_majority_identity,
    right_and_wrong,
    score_uncertainty,
)

NAN = np.nan


def loop_majority(clusters, identities):
    right = []
    for cluster, identity in zip(clusters, identities, strict=True):
        same = [i for c, i in zip(clusters, identities, strict=True) if c == cluster and i != -1]
        best = min(set(same), key=lambda i: (-same.count(i), i)) if same else None
        right.append(cluster != -1 and identity == best)
    return right


def loop_auc(right, wrong):
    wins = [(w > r) + 0.5 * (w == r) for r in right for w in wrong]
    return sum(wins) / len(wins)


def test_majority__outliers_unknown_people_and_ties():
    #                    two of 5 | a tie: the smaller | outlier | unknown
    clusters = np.array([0, 0, 0, 1, 1, -1, 0])
    identities = np.array([5, 5, 3, 9, 4, 5, -1])
    expected = [True, True, False, False, True, False, False]
    assert has_majority_identity(clusters, identities).tolist() == expected
    assert has_majority_identity(np.array([-1, 0]), np.array([3, -1])).tolist() == [False, False]


@pytest.mark.parametrize("seed", range(10))
def test_scores__equal_loops(seed):
    rng = np.random.default_rng(seed)
    clusters, identities = rng.integers(-1, 6, size=60), rng.integers(-1, 8, size=60)
    uncertainty = rng.integers(0, 9, size=60).astype(np.float32)  # many ties
    uncertainty[rng.random(60) < 0.2] = NAN
    right = has_majority_identity(clusters, identities)
    assert right.tolist() == loop_majority(clusters.tolist(), identities.tolist())
    known = ~np.isnan(uncertainty) & (clusters >= 0) & (identities >= 0)
    right_u, wrong_u = uncertainty[known & right], uncertainty[known & ~right]
    assert score_uncertainty(uncertainty, clusters, identities) == {
        "uncertainty/auc": pytest.approx(loop_auc(right_u.tolist(), wrong_u.tolist())),
        "uncertainty/mean": pytest.approx(np.nanmean(uncertainty)),
        "uncertainty/right": pytest.approx(right_u.mean()),
        "uncertainty/wrong": pytest.approx(wrong_u.mean()),
    }
    got_right, got_wrong = right_and_wrong(uncertainty, clusters, identities)
    assert (got_right == right_u).all() and (got_wrong == wrong_u).all()


def test_scores__perfect_and_reversed_order():
    clusters, identities = np.array([0, 0, 0]), np.array([1, 1, 2])
    score = {"uncertainty/mean": 2.0, "uncertainty/right": 1.5, "uncertainty/wrong": 3.0}
    assert score_uncertainty(np.array([1.0, 2, 3]), clusters, identities) == score | {
        "uncertainty/auc": 1.0
    }
    assert score_uncertainty(np.array([3.0, 2, 1]), clusters, identities)["uncertainty/auc"] == 0.0


@pytest.mark.parametrize(
    "uncertainty,clusters,identities,names",
    [
        ([1.0, 2], [0, 0], None, {"mean"}),
        ([1.0, 2], [0, 1], [3, 4], {"mean", "right"}),
        ([NAN, 2], [0, 0], [3, 4], {"mean", "wrong"}),
        ([NAN, NAN], [0, 0], [3, 4], set()),
        ([1.0, 2], [-1, 0], [3, -1], {"mean"}),
    ],
)
def test_scores__what_has_no_image_is_missing(uncertainty, clusters, identities, names):
    identities = None if identities is None else np.array(identities)
    scores = score_uncertainty(np.array(uncertainty), np.array(clusters), identities)
    assert set(scores) == {f"uncertainty/{name}" for name in names}
