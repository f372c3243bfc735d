import numpy as np
import pytest
import torch

import fastreid_uda  # noqa: F401
from fastreid_uda.evaluation.drawn_galleries import draw_galleries
from fastreid_uda.evaluation.reid_evaluator import BlockwiseReidEvaluator
from tests.evaluation.test_reid_evaluator import KEYS, make_cfg


@pytest.fixture
def vehicles():
    """30 images of 8 vehicles, one of them with a single image; no two of one camera."""
    rng = np.random.default_rng(3)
    identities = rng.permutation(
        np.concatenate([np.repeat(np.arange(7), [4, 5, 4, 4, 4, 4, 4]), [9]])
    )
    features = rng.normal(size=(10, 6))[identities] + 1.2 * rng.normal(size=(30, 6))
    return features.astype(np.float32), identities


def test_draw_galleries__is_one_image_of_each_identity_against_all_others(vehicles):
    _, identities = vehicles
    draws = list(draw_galleries(identities, 5))
    for query, gallery in draws:
        assert sorted(identities[gallery]) == [0, 1, 2, 3, 4, 5, 6, 9]
        assert sorted([*query, *gallery]) == list(range(30))
        assert 9 not in identities[query]
    assert len({tuple(gallery) for _, gallery in draws}) == 5
    again = list(draw_galleries(identities, 2))
    assert all(np.array_equal(a, b) for a, b in zip(again[1], draws[1], strict=True))


def test_draw_galleries__draws_every_image_alike():
    identities = np.repeat(np.arange(3), [2, 3, 5])
    drawn = np.concatenate([gallery for _, gallery in draw_galleries(identities, 3000)])
    shares = np.bincount(drawn, minlength=10) / 3000
    assert np.abs(shares - 1 / np.repeat([2, 3, 5], [2, 3, 5])).max() < 0.04


@pytest.mark.parametrize("draws", [1, 4])
def test_evaluate__is_the_mean_over_the_draws_of_a_naive_loop(vehicles, draws):
    features, identities = vehicles
    evaluator = BlockwiseReidEvaluator(make_cfg(), num_query=22, draws=draws)
    for rows in np.array_split(np.arange(30), 4):
        tensors = torch.from_numpy(identities[rows]), torch.from_numpy(rows)
        inputs = {"targets": tensors[0], "camids": tensors[1]}
        evaluator.process(inputs, torch.from_numpy(features[rows]))
    results = evaluator.evaluate()
    assert list(results) == KEYS
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    ranks = []
    for query, gallery in draw_galleries(identities, draws):
        for q in query:
            order = sorted(gallery, key=lambda g: 1 - units[q] @ units[g])
            ranks.append(1 + [identities[g] for g in order].index(identities[q]))
    assert len(ranks) == 22 * draws  # nothing of the gallery is removed
    ranks = np.array(ranks)
    assert results["mAP"] == pytest.approx(100 * np.mean(1 / ranks), abs=1e-4)
    assert results["Rank-1"] == pytest.approx(100 * np.mean(ranks <= 1), abs=1e-4)
    assert results["Rank-5"] == pytest.approx(100 * np.mean(ranks <= 5), abs=1e-4)
