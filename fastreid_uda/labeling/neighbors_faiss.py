"""Candidates for the nearest neighbours from an index of faiss, on its GPUs if it has some.

Imported only where it is asked for: it brings faiss.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from ..progress import Progress
from .row_distances import bounds_hold, distance_bounds, slices

_SEED = 1234
_SLACK = 32  # candidates beyond k
_MOST_ON_GPU = 2048  # neighbours that faiss's GPU indices find at most
_BLOCK_ROWS = 8192


class Search:
    """Finds candidates; see `neighbors._candidate_lists`.

    Attributes:
        width: entries of a list.
    """

    def __init__(self, features: np.ndarray, lengths: np.ndarray, k: int, approximate: str) -> None:
        """Takes (N, D) float32 features, their squared lengths (N,) and the index: "" for flat."""
        self._features, self._lengths, self._k = features, lengths, k
        self._approximate = approximate
        self.width = min(k + _SLACK, len(features))

    def __call__(self, rows: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lists (Q, width) int32 of Q rows, from the rows `among`, and (Q,) bool: complete.

        Approximate lists count as complete: there is nothing to be certain of.
        """
        width = min(self.width, len(among))
        every = len(among) == len(self._features)
        index = self._index(self._features if every else self._features[among], width)
        lists = np.full((len(rows), self.width), -1, dtype=np.int32)
        complete = np.ones(len(rows), dtype=bool)
        progress = Progress(f"Nearest neighbours of {len(rows):,} images", len(rows))
        for part in slices(len(rows), _BLOCK_ROWS):
            own = rows[part]
            squared, places = index.search(np.ascontiguousarray(self._features[own]), width)
            found = np.where(places < 0, -1, among[places])
            lists[part, :width] = found
            if not self._approximate:
                complete[part] = self._complete(own, among, squared, found)
            progress.add(len(own))
        return lists, complete

    def _complete(
        self, own: np.ndarray, among: np.ndarray, squared: np.ndarray, found: np.ndarray
    ) -> np.ndarray:
        """Which rows have their k nearest in the list, whatever was rounded."""
        k = min(self._k, len(among))
        # Small blocks are measured directly, which rounds as much as a product of rows whose
        # squared lengths are the distance, and that is at most twice the sum of both lengths.
        _, slack = distance_bounds(2 * self._lengths, self._features.shape[1])
        error = slack[own, None] + slack[found]
        lower, upper = squared - error, squared + error
        limit = np.partition(upper, k - 1, axis=1)[:, k - 1]
        complete = np.isfinite(limit) & (found >= 0).all(axis=1)
        if found.shape[1] < len(among):
            # What was left out is as far as the last one here, and off by the largest error.
            complete &= limit < squared[:, -1] - (slack[own] + slack[among].max())
        last = k - 1
        if not bounds_hold(
            self._features,
            own[complete],
            found[complete, last],
            lower[complete, last],
            upper[complete, last],
        ):
            complete[:] = False
        return complete

    def _index(self, base: np.ndarray, width: int) -> Any:
        num_rows, dimension = base.shape
        if self._approximate == "hnsw":
            index = faiss.IndexHNSWFlat(dimension, 32)
            index.hnsw.efConstruction = 80
            index.hnsw.efSearch = max(128, 2 * width)
            with _one_thread():  # several would link the graph in the order in which they run
                index.add(base)
            return index
        if self._approximate == "ivf":
            lists = max(1, min(int(4 * num_rows**0.5), num_rows // 39))
            index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dimension), dimension, lists)
            index.cp.seed = _SEED
            index.nprobe = probes(lists)
            index = self._on_gpus(index, width)
            index.train(base)
        else:
            index = self._on_gpus(faiss.IndexFlatL2(dimension), width)
        index.add(base)
        return index

    def _on_gpus(self, index: Any, width: int) -> Any:
        if getattr(faiss, "get_num_gpus", int)() > 0 and width <= _MOST_ON_GPU:
            return faiss.index_cpu_to_all_gpus(index)
        return index


def probes(lists: int) -> int:
    """Of so many inverted lists, those that are searched for a row: a 16th, and at least 16."""
    return min(lists, max(16, lists // 16))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
