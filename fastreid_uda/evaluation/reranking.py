"""Query-to-gallery distances after k-reciprocal re-ranking, one block of queries at a time.

The k-reciprocal Jaccard distance over query and gallery together is mixed with the original one:
d* = (1 - lambda) d_Jaccard + lambda d.

Reference:
    Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017,
    https://arxiv.org/abs/1701.08398.
    fast-reid `fastreid/evaluation/reid_evaluation.py` (the mixture) and
    `fastreid/utils/compute_dist.py` (the Jaccard distance); the distances agree to 1e-5.
    fast-reid needs a GPU and two dense matrices of (Q + G) x (Q + G); this needs neither. Jaccard
    distances are computed for the queries' rows alone.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..memory import require_memory
from . import ranking
from .distances import DistanceBlocks, feature_distances, row_norms


def reranked_distances(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    *,
    metric: str = "cosine",
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    backend: str = "auto",
) -> DistanceBlocks:
    """Re-ranked distances for `ranking.evaluate_ranking`; the Jaccard part is computed here, once.

    Args:
        query_features: (Q, D) floats.
        gallery_features: (G, D) floats.
        metric: "cosine" L2-normalises the features for the Jaccard part; "euclidean" takes them as
            they are and mixes with the squared distance. Both as fast-reid does.
        k1: length of the neighbour lists, the image itself included, at least 1; TEST.RERANK.K1.
        k2: neighbours of the local query expansion, at least 1; 1 = none; TEST.RERANK.K2.
        lambda_value: share of the original distance, in [0, 1]; TEST.RERANK.LAMBDA.
        backend: of the neighbour search; see `labeling.neighbors.nearest_neighbors`.

    Raises:
        UserError: for values out of these ranges and features that do not fit together.
    """
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise UserError(
            f"Re-ranking got k1={k1}, k2={k2}, lambda={lambda_value}, but needs k1 >= 1, k2 >= 1 "
            "and lambda in [0, 1]."
        )
    original = feature_distances(query_features, gallery_features, metric)
    num_queries, num_gallery = len(query_features), len(gallery_features)
    require_memory(
        f"Re-ranking {num_gallery:,} gallery images for {num_queries:,} queries",
        memory_needed(num_queries, num_gallery, query_features.shape[1], k1),
        "lower TEST.RERANK.K1 (--k1), or rank without it",
    )
    # Imported late: ranking without re-ranking loads no scipy.sparse.
    from ..labeling.jaccard import k_reciprocal_jaccard

    features = np.empty((num_queries + num_gallery, query_features.shape[1]), dtype=np.float32)
    features[:num_queries], features[num_queries:] = query_features, gallery_features
    if metric == "cosine":
        features /= row_norms(features)[:, None]
    jaccard = k_reciprocal_jaccard(features, k1, k2, backend=backend, rows=num_queries)
    del features
    own, rest = np.float32(lambda_value), np.float32(1 - lambda_value)

    def mixed(start: int, stop: int) -> np.ndarray:
        block = original(start, stop)
        block *= own
        stored = slice(jaccard.indptr[start], jaccard.indptr[stop])
        columns = jaccard.indices[stored].astype(np.int64) - num_queries
        rows = np.repeat(np.arange(stop - start), np.diff(jaccard.indptr[start : stop + 1]))
        in_gallery = columns >= 0
        cells = rows[in_gallery] * num_gallery + columns[in_gallery]
        flat = block.reshape(-1)
        near = flat[cells] + jaccard.data[stored][in_gallery] * rest
        block += rest  # pairs that are not stored have distance 1
        flat[cells] = near
        return block

    return mixed


def memory_needed(num_query: int, num_gallery: int, dimension: int, k1: int = 20) -> int:
    """Bytes that `reranked_distances` and a ranking by them take above (Q, D) and (G, D) features.

    An estimate: how many Jaccard distances are below 1 depends on the features.
    """
    from ..labeling import neighbors

    images = num_query + num_gallery
    joined = 4 * images * dimension
    search = neighbors.memory_needed(images, dimension, k1)
    lists = 12 * k1 * images
    weights = 8 * 4 * k1 * images  # of the expanded neighbours, 4 per neighbour, by row and column
    distances = 8 * 160 * k1 * num_query  # each with its column; the pieces are let go on the way
    measured = joined + max(search, lists + 3 * weights + distances)
    return max(measured, distances + ranking.memory_needed(num_query, num_gallery, dimension))
