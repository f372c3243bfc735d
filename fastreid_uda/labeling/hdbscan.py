"""HDBSCAN on sparse distances: scikit-learn's, fed with a spanning tree instead of all pairs.

Given a sparse matrix, scikit-learn refuses images with few neighbours and graphs that fall into
parts, and loses distances of 0. So the spanning tree, the only thing that its clustering reads, is
found here, in the order in which scikit-learn finds it in a dense matrix, ties included.

Reference: Campello, Moulavi and Sander, "Density-Based Clustering Based on Hierarchical Density
Estimates", PAKDD 2013.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
import sklearn.cluster
from scipy.sparse import csr_matrix, diags

from .types import OUTLIER

_NOT_QUITE_ZERO = 1e-300


def sparse_hdbscan(
    graph: csr_matrix,
    limit: float,
    *,
    min_cluster_size: int,
    min_samples: int,
    selection: str,
) -> np.ndarray:
    """The clusters that scikit-learn finds in the dense matrix min(distance, limit).

    One thing is decided that scikit-learn leaves to chance: images that are connected to fewer than
    `min_cluster_size` images by reachabilities below the limit are outliers. In the dense matrix
    they are tied, everything else is equally far, and the order of the images says whether they
    are outliers or members of some cluster.

    Args:
        graph: (N, N), the distances below the limit, symmetric, zeros and the diagonal stored.
        limit: the distance of all other pairs, above 0.
        min_cluster_size: smallest number of images of a cluster, at least 2.
        min_samples: an image's core distance is that of its nearest neighbour of this rank, itself
            included; at least 1.
        selection: `"eom"` or `"leaf"`, which clusters of the hierarchy are taken.

    Returns:
        (N,) int64, OUTLIER or a number from 0.
    """
    cores = core_distances(graph, min_samples, limit)
    order, reached = spanning_chain(graph, cores, limit)
    # The images of one component follow each other; a new one begins with a step of the limit.
    component = np.cumsum(reached >= limit)
    kept = np.bincount(component)[component] >= min_cluster_size
    labels = np.full(graph.shape[0], OUTLIER, dtype=np.int64)
    if not kept.any():
        return labels
    # SciPy's spanning tree would drop a distance of 0.
    chain = np.maximum(reached[kept][1:], _NOT_QUITE_ZERO)
    tree = diags([chain, chain], [1, -1], format="csr")
    hdbscan = sklearn.cluster.HDBSCAN(
        min_cluster_size=min_cluster_size,
        min_samples=1,  # of the tree, which is made of reachabilities already
        cluster_selection_method=selection,
        metric="precomputed",
        algorithm="brute",
        allow_single_cluster=False,
        copy=False,
    )
    labels[order[kept]] = hdbscan.fit(tree).labels_
    return labels


def core_distances(graph: csr_matrix, min_samples: int, limit: float) -> np.ndarray:
    """(N,) float64: the distance of each row's `min_samples`-th entry, or the limit without one."""
    rows = zip(graph.indptr[:-1], graph.indptr[1:], strict=True)
    last = min_samples - 1
    return np.array(
        [
            np.partition(graph.data[start:stop], last)[last] if stop - start > last else limit
            for start, stop in rows
        ],
        dtype=np.float64,
    )


def spanning_chain(
    graph: csr_matrix, cores: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Prim's algorithm on the reachabilities max(core of i, core of j, distance of i and j).

    From row 0, the next row is the one that is nearest to any row before it, of equals the one with
    the lowest number. The rows in this order, each tied to the one before it by the distance at
    which it was reached, have the same single-linkage hierarchy as the spanning tree.

    Args:
        graph: (N, N), the distances below the limit.
        cores: (N,) float64.
        limit: the distance of all other pairs.

    Returns:
        (N,) int64, the rows in order, and (N,) float64, the distance of each from those before it;
        the limit for the first.
    """
    num_rows = graph.shape[0]
    best = np.full(num_rows, limit)
    waiting = np.ones(num_rows, dtype=bool)
    order, reached = np.empty(num_rows, dtype=np.int64), np.empty(num_rows)
    near: list[tuple[float, int]] = []
    lowest = 0
    for place in range(num_rows):
        while near and not waiting[near[0][1]]:
            heappop(near)
        if near:
            reached[place], row = heappop(near)
        else:
            lowest += int(waiting[lowest:].argmax())
            reached[place], row = limit, lowest
        order[place] = row
        waiting[row] = False
        entries = slice(graph.indptr[row], graph.indptr[row + 1])
        columns = graph.indices[entries]
        distances = np.maximum(np.maximum(graph.data[entries], cores[row]), cores[columns])
        nearer = waiting[columns] & (distances < best[columns])
        best[columns[nearer]] = distances[nearer]
        for found in zip(distances[nearer].tolist(), columns[nearer].tolist(), strict=True):
            heappush(near, found)
    return order, reached
