"""Rank-k, mAP and mINP of queries against a gallery, without the query x gallery matrix.

Protocol: single query, as on Market-1501. Gallery images with the identity AND the camera of the
query are removed; a query without another image of its identity is left out of all means. Every
other gallery image counts, whatever its identity: drop junk images (-1 in Market-1501) beforehand,
as fast-reid's datasets do.

Of each query only its matches are ranked, by counting the gallery images in front of them, so no
row is sorted. Among equal distances the smaller gallery index comes first (a stable sort).
fast-reid sorts with numpy's unstable default, so the two agree wherever no two distances of a
query are equal.

Reference:
    Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015 (protocol, mAP).
    Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2021,
    https://arxiv.org/abs/2001.04193 (mINP).
    fast-reid `fastreid/evaluation/rank.py`, `eval_market1501` (the figures this agrees with).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .distances import DistanceBlocks, feature_distances


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
    block_rows: int = 256,
    distances: DistanceBlocks | None = None,
) -> RankingScores:
    """Scores of all queries; memory beside the inputs is one (block_rows, G) float32 block.

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
        block_rows: queries whose distances are in memory at a time, at least 1.
        distances: where the distances come from instead of the features, e.g.
            `reranking.reranked_distances(...)`. Called once per block, in order; never written to.

    Raises:
        UserError: if arrays do not fit together, a feature or distance is not a number, or no
            query has a match.
    """
    if max_rank < 1 or block_rows < 1:
        raise UserError(f"max_rank is {max_rank}, block_rows {block_rows}; both must be >= 1.")
    queries = _Labels("query", query_identities, query_camera_ids)
    gallery = _Labels("gallery", gallery_identities, gallery_camera_ids)
    matches_of = _MatchFinder(queries, gallery)
    if distances is None:
        if query_features is None or gallery_features is None:
            raise UserError("Give query_features and gallery_features, or distances.")
        queries.require_rows(len(query_features))
        gallery.require_rows(len(gallery_features))
        distances = feature_distances(query_features, gallery_features, metric)

    average_precisions = np.full(len(queries), np.nan)
    inverse_negative_penalties = np.full(len(queries), np.nan)
    first_ranks = np.zeros(len(queries), dtype=np.int64)  # 0: no match
    for query, ranks in _ranks_of_matches(distances, matches_of, block_rows):
        average_precisions[query] = np.mean(np.arange(1, len(ranks) + 1) / ranks)
        inverse_negative_penalties[query] = len(ranks) / ranks[-1]
        first_ranks[query] = ranks[0]

    valid = first_ranks > 0
    hits = np.bincount(first_ranks[valid], minlength=max_rank + 1)[1 : max_rank + 1]
    return RankingScores(
        cmc=np.cumsum(hits) / np.count_nonzero(valid),
        mean_average_precision=float(np.mean(average_precisions[valid])),
        mean_inverse_negative_penalty=float(np.mean(inverse_negative_penalties[valid])),
        num_valid_queries=int(np.count_nonzero(valid)),
        average_precisions=average_precisions,
    )


class _Labels:
    """The identity and camera of each image of one side."""

    def __init__(self, side: str, identities: np.ndarray, camera_ids: np.ndarray) -> None:
        self.side = side
        self.identities, self.camera_ids = np.asarray(identities), np.asarray(camera_ids)
        for name, values in (("identities", self.identities), ("camera ids", self.camera_ids)):
            if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
                raise UserError(
                    f"The {side} {name} are {values.dtype} of shape {values.shape}, but must be "
                    "integers of shape (images,), at least one."
                )
        self.require_rows(len(self.camera_ids))

    def __len__(self) -> int:
        return len(self.identities)

    def require_rows(self, rows: int) -> None:
        if rows != len(self):
            raise UserError(
                f"The {self.side} has {len(self)} identities, but {rows} feature rows or camera "
                "ids; every image needs one of each."
            )


class _MatchFinder:
    """Finds the gallery images with a query's identity: matches, and those that are removed."""

    def __init__(self, queries: _Labels, gallery: _Labels) -> None:
        self.num_queries, self.num_gallery = len(queries), len(gallery)
        self._gallery_camera_ids = gallery.camera_ids
        self._query_camera_ids = queries.camera_ids
        self._by_identity = np.argsort(gallery.identities, kind="stable")
        ordered = gallery.identities[self._by_identity]
        self._starts = np.searchsorted(ordered, queries.identities, side="left")
        self._stops = np.searchsorted(ordered, queries.identities, side="right")
        if not any(len(self(query)[0]) for query in range(len(queries))):
            raise UserError(self._why_no_match())

    def __call__(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Ascending gallery indices: those of other cameras, and those of the query's camera."""
        same_identity = self._by_identity[self._starts[query] : self._stops[query]]
        same_camera = self._gallery_camera_ids[same_identity] == self._query_camera_ids[query]
        return same_identity[~same_camera], same_identity[same_camera]

    def _why_no_match(self) -> str:
        if (self._starts == self._stops).all():
            return (
                "No query identity occurs in the gallery, so nothing can be scored; give query and "
                "gallery of the same people with the same numbering of identities."
            )
        cameras = np.union1d(self._query_camera_ids, self._gallery_camera_ids)
        cause = f" (every camera id is {cameras[0]})" if len(cameras) == 1 else ""
        return (
            f"Every gallery image of a query's identity is from the query's own camera{cause} and "
            "is removed by the protocol; check the camera ids, or without cameras give the gallery "
            "another camera id than the queries."
        )


def _ranks_of_matches(
    distances: DistanceBlocks, matches_of: _MatchFinder, block_rows: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Each query with a match, and the ascending ranks of its matches."""
    for start in range(0, matches_of.num_queries, block_rows):
        stop = min(start + block_rows, matches_of.num_queries)
        block = _checked_block(distances(start, stop), stop - start, matches_of.num_gallery)
        for query, row in enumerate(block, start):
            matches, removed = matches_of(query)
            if len(matches):
                yield query, _match_ranks(row, matches, removed)


def _checked_block(block: np.ndarray, rows: int, columns: int) -> np.ndarray:
    if block.shape != (rows, columns):
        raise UserError(f"distances gave a block of shape {block.shape}, not {(rows, columns)}.")
    if np.isnan(block.min()):  # NaN wins every minimum, so this needs no mask
        raise UserError(
            "Some distances are NaN, so the ranking is undefined; mend what computes `distances`."
        )
    return block


def _match_ranks(row: np.ndarray, matches: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Ascending ranks of the matches among the gallery without the removed images.

    Args:
        row: (G,) distances of one query.
        matches: (M,) gallery indices.
        removed: (R,) gallery indices that take no part.

    Returns:
        (M,) int64; the closest image has rank 1.
    """
    ranks = np.empty(len(matches), dtype=np.int64)
    for position, match in enumerate(matches.tolist()):
        # Equal distances count on the left of the match only; the match itself is the 1.
        before = np.count_nonzero(row[:match] <= row[match])
        ranks[position] = 1 + before + np.count_nonzero(row[match:] < row[match])
    if len(removed):
        ahead = row[removed, None] < row[matches]
        ahead |= (row[removed, None] == row[matches]) & (removed[:, None] < matches)
        ranks -= np.count_nonzero(ahead, axis=0)
    return np.sort(ranks)
