"""Rank-k, mAP and mINP of queries against a gallery, without the query x gallery matrix.

Protocol: single query, as on Market-1501. Gallery images with the identity AND the camera of the
query are removed; a query without another image of its identity is left out of all means. Every
other gallery image counts, whatever its identity: drop junk images (-1 in Market-1501) beforehand,
as fast-reid's datasets do.

Of each query only its matches are ranked, by counting the gallery images in front of them, so no
row is sorted: by compiled kernels in threads, or by NumPy with the same ranks. Among equal
distances the smaller gallery index comes first (a stable sort). fast-reid sorts with numpy's
unstable default, so the two agree wherever no two distances of a query are equal.

Reference:
    Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015 (protocol, mAP).
    Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2021,
    https://arxiv.org/abs/2001.04193 (mINP).
    fast-reid `fastreid/evaluation/rank.py`, `eval_market1501` (the figures this agrees with).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import compiled
from ..compiled import read_only
from ..errors import UserError
from ..memory import require_memory
from .distances import DistanceBlocks, feature_distances
from .matches import Labels, Matches

BUFFERS = 32 << 20
"""Bytes, about: what the BLAS packs of its factors, and the kernels when they are loaded."""

_BLOCK_BYTES = 160 << 20
_MOST_BLOCK_ROWS = 1024  # the matrix product gains nothing from more
_ROWS_PER_TASK = 16


@dataclass(frozen=True)
class RankingScores:
    """How well the queries retrieve their identities; all shares lie in [0, 1].

    Attributes:
        cmc: (max_rank,) float64; entry k-1 is the share of valid queries with a match among
            their k closest images. Constant from G on if the gallery is smaller than max_rank.
        mean_average_precision: mAP over the valid queries.
        mean_inverse_negative_penalty: mINP: the mean of matches / rank of the last match.
        num_valid_queries: queries with at least one match.
        average_precisions: (Q,) float64, NaN for a query without a match.
    """

    cmc: np.ndarray
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    num_valid_queries: int
    average_precisions: np.ndarray

    def percentages(self) -> dict[str, float]:
        """Rank-1, Rank-5, Rank-10 (those within max_rank), mAP and mINP, in percent."""
        ranks = [rank for rank in (1, 5, 10) if rank <= len(self.cmc)]
        return {
            **{f"Rank-{rank}": 100 * float(self.cmc[rank - 1]) for rank in ranks},
            "mAP": 100 * self.mean_average_precision,
            "mINP": 100 * self.mean_inverse_negative_penalty,
        }


def evaluate_ranking(
    query_features: np.ndarray | None,
    gallery_features: np.ndarray | None,
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_camera_ids: np.ndarray,
    gallery_camera_ids: np.ndarray,
    *,
    metric: str = "cosine",
    max_rank: int = 50,
    block_rows: int | None = None,
    distances: DistanceBlocks | None = None,
) -> RankingScores:
    """Scores of all queries; memory beside the inputs is one (block_rows, G) float32 block.

    See `memory_needed`.

    The scores depend only on the order of the distances, not on `block_rows`; the matrix product
    behind them may round the last bit of a near tie differently for another block height.

    Args:
        query_features: (Q, D) floats, any norm; None if `distances` is given.
        gallery_features: (G, D) floats, any norm; None if `distances` is given.
        query_identities: (Q,) integers.
        gallery_identities: (G,) integers.
        query_camera_ids: (Q,) integers.
        gallery_camera_ids: (G,) integers.
        metric: "cosine" or "euclidean"; see `distances.feature_distances`. Unused with `distances`.
        max_rank: length of the CMC curve, at least 1.
        block_rows: queries whose distances are in memory at a time, at least 1; None: as many as
            make a block of 160 MB, 1,024 at most.
        distances: where the distances come from instead of the features, e.g.
            `reranking.reranked_distances(...)`. Called once per block, in order; never written to.

    Raises:
        UserError: if arrays do not fit together, a feature or distance is not a number, or no
            query has a match.
    """
    if max_rank < 1 or (block_rows is not None and block_rows < 1):
        raise UserError(f"max_rank is {max_rank}, block_rows {block_rows}; both must be >= 1.")
    queries = Labels("query", query_identities, query_camera_ids)
    gallery = Labels("gallery", gallery_identities, gallery_camera_ids)
    matches = Matches.find(queries, gallery)
    if distances is None:
        if query_features is None or gallery_features is None:
            raise UserError("Give query_features and gallery_features, or distances.")
        queries.require_rows(len(query_features))
        gallery.require_rows(len(gallery_features))
        distances = feature_distances(query_features, gallery_features, metric)
        needed = memory_needed(len(queries), len(gallery), query_features.shape[1], block_rows)
        require_memory(
            f"Ranking {len(gallery):,} gallery images for {len(queries):,} queries", needed,
            "use fewer of them, or a smaller block_rows",
        )  # fmt: skip
    if block_rows is None:
        block_rows = rows_of_block(len(gallery))

    average_precisions = np.full(len(queries), np.nan)
    inverse_negative_penalties = np.full(len(queries), np.nan)
    first_ranks = np.zeros(len(queries), dtype=np.int64)  # 0: no match
    for start in range(0, len(queries), block_rows):
        stop = min(start + block_rows, len(queries))
        own = matches.of_queries(start, stop)
        ranks = own.ranked(_checked_block(distances(start, stop), stop - start, len(gallery)))
        counts = own.counts[own.counts > 0]
        if not len(counts):
            continue
        found = start + np.flatnonzero(own.counts)
        firsts = np.cumsum(counts) - counts
        hits = np.arange(1, len(ranks) + 1) - np.repeat(firsts, counts)
        average_precisions[found] = np.add.reduceat(hits / ranks, firsts) / counts
        inverse_negative_penalties[found] = counts / ranks[firsts + counts - 1]
        first_ranks[found] = ranks[firsts]

    valid = first_ranks > 0
    hits = np.bincount(first_ranks[valid], minlength=max_rank + 1)[1 : max_rank + 1]
    return RankingScores(
        cmc=np.cumsum(hits) / np.count_nonzero(valid),
        mean_average_precision=float(np.mean(average_precisions[valid])),
        mean_inverse_negative_penalty=float(np.mean(inverse_negative_penalties[valid])),
        num_valid_queries=int(np.count_nonzero(valid)),
        average_precisions=average_precisions,
    )


def rows_of_block(num_gallery: int) -> int:
    """Queries whose distances to G gallery images are in memory at a time."""
    return min(_MOST_BLOCK_ROWS, max(1, _BLOCK_BYTES // (4 * num_gallery)))


def memory_needed(
    num_query: int, num_gallery: int, dimension: int, block_rows: int | None = None
) -> int:
    """Bytes that `evaluate_ranking` takes above (Q, D) and (G, D) float32 features: an estimate."""
    rows = min(num_query, block_rows or rows_of_block(num_gallery))
    block = rows * num_gallery * 4
    scaled = rows * dimension * 4  # the queries of the block over their norms
    labels = 64 * num_gallery + 80 * num_query  # codes, order and bounds, while they are found
    return block + scaled + labels + BUFFERS


def _checked_block(block: np.ndarray, rows: int, columns: int) -> np.ndarray:
    if block.shape != (rows, columns):
        raise UserError(f"distances gave a block of shape {block.shape}, not {(rows, columns)}.")
    if _holds_nan(block):
        raise UserError(
            "Some distances are NaN, so the ranking is undefined; mend what computes `distances`."
        )
    return block


def _holds_nan(block: np.ndarray) -> bool:
    if not (compiled.available() and block.dtype == np.float32):
        return bool(np.isnan(block.min()))  # NaN wins every minimum, so this needs no mask
    from . import kernels

    block = read_only(block)
    parts = compiled.over_rows(
        lambda start, stop: kernels.holds_nan(block[start:stop]), len(block), _ROWS_PER_TASK
    )
    return any(parts)
