from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.evaluation.ranking import evaluate_ranking
from fastreid_uda.evaluation.reranking import reranked_distances

from . import make_people


def fastreid_distances(people, metric, k1, k2, lambda_value):
    """What fast-reid's evaluator computes, with its CPU neighbour search."""
    torch = pytest.importorskip("torch")
    compute_dist = pytest.importorskip("fastreid.utils.compute_dist")
    query, gallery = map(torch.from_numpy, people[:2])
    original = compute_dist.build_dist(query, gallery, metric)
    features = torch.cat([query, gallery])
    if metric == "cosine":
        features = torch.nn.functional.normalize(features)
    jaccard = compute_dist.compute_jaccard_distance(features, k1, k2, search_option=3)
    return jaccard[: len(query), len(query) :] * (1 - lambda_value) + original * lambda_value


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k1", "k2", "lambda_value"), [(20, 6, 0.3), (8, 1, 0.0), (5, 3, 1.0)])
def test_reranked_distances__equals_fastreid(metric, k1, k2, lambda_value):
    people = make_people(num_queries=60, num_gallery=200)
    expected = fastreid_distances(people, metric, k1, k2, lambda_value)
    blocks = reranked_distances(*people[:2], metric=metric, k1=k1, k2=k2, lambda_value=lambda_value)
    np.testing.assert_allclose(blocks(0, 60), expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(blocks(7, 9).dtype, np.float32)
    np.testing.assert_allclose(blocks(7, 9), expected[7:9], rtol=1e-6, atol=1e-5)


def test_reranked_distances__a_stored_zero_is_the_distance_0(monkeypatch):
    # Image 0 is the query; the gallery's pairs: stored 0, stored 0.5, not stored (= 1).
    stored = csr_matrix(([0.0, 0.0, 0.5], ([0, 0, 0], [0, 1, 2])), shape=(4, 4), dtype=np.float32)
    stub = type(sys)("stub")
    stub.k_reciprocal_jaccard = lambda features, k1, k2, *, backend, rows: stored[:rows]
    monkeypatch.setitem(sys.modules, "fastreid_uda.labeling.jaccard", stub)
    features = np.eye(4, dtype=np.float32)
    block = reranked_distances(features[:1], features[1:], lambda_value=0.4)(0, 1)
    np.testing.assert_allclose(block, [[0.4, 0.3 + 0.4, 0.6 + 0.4]], atol=1e-7)


def test_reranked_distances__are_ranked_like_any_other():
    people = make_people(dimensions=64)
    reranked = evaluate_ranking(*people, distances=reranked_distances(*people[:2]), block_rows=7)
    plain = evaluate_ranking(*people)
    assert reranked.mean_average_precision > plain.mean_average_precision
    only_original = reranked_distances(*people[:2], lambda_value=1)
    same = evaluate_ranking(*people, distances=only_original)
    assert same.mean_average_precision == pytest.approx(plain.mean_average_precision, abs=1e-6)


@pytest.mark.parametrize("options", [{"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}])
def test_reranked_distances__error(options):
    with pytest.raises(UserError, match="Re-ranking got"):
        reranked_distances(*make_people()[:2], **options)
