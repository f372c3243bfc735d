"""Features of queries and of an index -> the nearest images of each query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .distances import feature_distances
from .reranking import reranked_distances

_BLOCK_CELLS = 1 << 24  # distances in memory at a time: 64 MB


@dataclass(frozen=True)
class Reranking:
    """k-reciprocal re-ranking, the keys of TEST.RERANK; see `reranking.reranked_distances`."""

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3


@dataclass(frozen=True)
class Matches:
    """The nearest images of one query, nearest first.

    Attributes:
        rows: (T,) int64 rows of the gallery.
        distances: (T,) float32.
    """

    rows: np.ndarray
    distances: np.ndarray


def find_matches(
    queries: np.ndarray,
    gallery: np.ndarray,
    left_out: Sequence[np.ndarray],
    *,
    metric: str,
    top: int,
    reranking: Reranking | None = None,
    own: Sequence[int | None] | None = None,
) -> list[Matches]:
    """The nearest gallery images of each query; of equal distances the lower row comes first.

    Args:
        queries: (Q, D) floats.
        gallery: (G, D) floats.
        left_out: for each query the (L,) rows of the gallery that are no matches, e.g. the images
            of its camera; in the re-ranking they are neighbours.
        metric: of `evaluation.distances`.
        top: T, 1 or more; there are fewer if fewer are left.
        reranking: None: there is none.
        own: for each query its own row of the gallery, None if it is not there; no match either,
            and no neighbour. None: no query is there.

    Raises:
        UserError: features that do not fit together, or are not finite.
    """
    found = []
    own = [None] * len(queries) if own is None else own
    blocks = _rows(queries, gallery, metric, reranking, own)
    for distances, rows, row in zip(blocks, left_out, own, strict=True):
        rows = rows if row is None else np.append(rows, row)
        distances[rows] = np.inf
        left = len(gallery) - len(np.unique(rows))
        order = np.argsort(distances, kind="stable")[: min(top, left)]
        found.append(Matches(order, np.maximum(distances[order], 0)))  # rounding: -0.0000
    return found


def _rows(
    queries: np.ndarray,
    gallery: np.ndarray,
    metric: str,
    reranking: Reranking | None,
    own: Sequence[int | None],
) -> Iterator[np.ndarray]:
    """(G,) distances of each query; re-ranked, its own row is infinitely far."""
    if reranking:
        # Each by itself: the re-ranked distances of a query depend on the others.
        for query, row in zip(queries, own, strict=True):
            yield _reranked(query, gallery, metric, reranking, row)
        return
    blocks = feature_distances(queries, gallery, metric)
    size = max(1, _BLOCK_CELLS // len(gallery))
    for start in range(0, len(queries), size):
        yield from blocks(start, min(start + size, len(queries)))


def _reranked(
    query: np.ndarray, gallery: np.ndarray, metric: str, reranking: Reranking, own: int | None
) -> np.ndarray:
    """(G,) distances of one query, among whose neighbours it is not a second time."""
    others = np.arange(len(gallery)) != (-1 if own is None else own)
    distances = np.full(len(gallery), np.inf, dtype=np.float32)
    if others.any():
        distances[others] = reranked_distances(
            query[None],
            gallery if own is None else gallery[others],
            metric=metric,
            k1=reranking.k1,
            k2=reranking.k2,
            lambda_value=reranking.lambda_value,
        )(0, 1)[0]
    return distances
