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
) -> list[Matches]:
    """The nearest gallery images of each query; of equal distances the lower row comes first.

    Args:
        queries: (Q, D) floats.
        gallery: (G, D) floats.
        left_out: for each query the (L,) rows of the gallery that are no matches: the query itself,
            images of its camera.
        metric: of `evaluation.distances`.
        top: T, 1 or more; there are fewer if fewer are left.
        reranking: None: there is none.

    Raises:
        UserError: features that do not fit together, or are not finite.
    """
    found = []
    for distances, rows in zip(_rows(queries, gallery, metric, reranking), left_out, strict=True):
        distances[rows] = np.inf
        left = len(gallery) - len(np.unique(rows))
        order = np.argsort(distances, kind="stable")[: min(top, left)]
        found.append(Matches(order, np.maximum(distances[order], 0)))  # rounding: -0.0000
    return found


def _rows(
    queries: np.ndarray, gallery: np.ndarray, metric: str, reranking: Reranking | None
) -> Iterator[np.ndarray]:
    """(G,) distances of each query."""
    if reranking:
        # Each by itself: the re-ranked distances of a query depend on the others.
        for query in queries:
            yield reranked_distances(
                query[None],
                gallery,
                metric=metric,
                k1=reranking.k1,
                k2=reranking.k2,
                lambda_value=reranking.lambda_value,
            )(0, 1)[0]
        return
    blocks = feature_distances(queries, gallery, metric)
    size = max(1, _BLOCK_CELLS // len(gallery))
    for start in range(0, len(queries), size):
        yield from blocks(start, min(start + size, len(queries)))
