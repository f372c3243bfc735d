"""Query-to-gallery distances after k-reciprocal re-ranking, one block of queries at a time.

The k-reciprocal Jaccard distance over query and gallery together is mixed with the original one:
d* = (1 - lambda) d_Jaccard + lambda d.

Reference:
    Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017,
    https://arxiv.org/abs/1701.08398.
    fast-reid `fastreid/evaluation/reid_evaluation.py` (the mixture) and
    `fastreid/utils/compute_dist.py` (the Jaccard distance); the distances agree to 1e-5.
    fast-reid needs a GPU and two dense matrices of (Q + G) x (Q + G); this needs neither.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .distances import DistanceBlocks, feature_distances, row_norms


def reranked_distances(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    *,
    metric: str = "cosine",
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    backend: str = "numpy",
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
    # Imported late: ranking without re-ranking loads no scipy.
    from ..labeling.jaccard import k_reciprocal_jaccard

    features = np.concatenate([query_features, gallery_features]).astype(np.float32, copy=False)
    if metric == "cosine":
        features /= row_norms(features)[:, None]
    num_queries = len(query_features)
    jaccard = k_reciprocal_jaccard(features, k1, k2, backend=backend)[:num_queries, num_queries:]

    def mixed(start: int, stop: int) -> np.ndarray:
        block = original(start, stop) * np.float32(lambda_value)
        rows = jaccard[start:stop].tocoo()  # explicit zeros stay, pairs not stored have distance 1
        near = block[rows.row, rows.col] + rows.data * np.float32(1 - lambda_value)
        block += np.float32(1 - lambda_value)
        block[rows.row, rows.col] = near
        return block

    return mixed
