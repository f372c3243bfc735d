"""The kernel of DBSCAN."""

from __future__ import annotations

import numpy as np

from ...compiled import kernel


@kernel
def dbscan(
    pointers: np.ndarray,
    columns: np.ndarray,
    distances: np.ndarray,
    eps: np.float32,
    min_samples: int,
) -> np.ndarray:
    """As `dbscan.dbscan`, (N,) int64; row pointers int64, columns int32, distances float32."""
    num_rows = len(pointers) - 1
    # The core images of a tree are connected; its root has the lowest number. -1: no core image.
    parents = np.empty(num_rows, dtype=np.int64)
    for i in range(num_rows):
        near = 0
        for entry in range(pointers[i], pointers[i + 1]):
            near += distances[entry] <= eps
        parents[i] = i if near >= min_samples else -1
    for i in range(num_rows):
        if parents[i] < 0:
            continue
        own = _root(parents, i)
        for entry in range(pointers[i], pointers[i + 1]):
            j = columns[entry]
            if j >= i:
                break
            if distances[entry] <= eps and parents[j] >= 0:
                other = _root(parents, j)
                parents[max(own, other)] = min(own, other)
                own = min(own, other)
    labels = np.full(num_rows, -1, dtype=np.int64)
    number = 0
    for i in range(num_rows):
        if parents[i] == i:
            labels[i] = number
            number += 1
        elif parents[i] >= 0:
            labels[i] = labels[_root(parents, i)]
    for i in range(num_rows):
        if parents[i] < 0:
            lowest = number
            for entry in range(pointers[i], pointers[i + 1]):
                j = columns[entry]
                if distances[entry] <= eps and parents[j] >= 0:
                    lowest = min(lowest, labels[j])
            if lowest < number:
                labels[i] = lowest
    return labels


@kernel
def _root(parents: np.ndarray, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i
