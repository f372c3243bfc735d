"""DBSCAN on a graph of neighbours, with the numbers that scikit-learn gives to the clusters.

Clusters are the connected components of the core images, numbered by their first core image. A
border image, which has a core image among its neighbours and is none, goes to the cluster with the
lowest number.

Reference: Ester, Kriegel, Sander and Xu, "A Density-Based Algorithm for Discovering Clusters in
Large Spatial Databases with Noise", KDD 1996.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from .. import compiled
from ..compiled import read_only
from .types import OUTLIER


def dbscan(graph: csr_matrix, eps: float, min_samples: int) -> np.ndarray:
    """The clusters at a radius.

    Args:
        graph: (N, N) float32, all distances up to `eps`, and others perhaps; symmetric, sorted
            indices, zeros and the diagonal stored.
        eps: images are neighbours up to this distance, compared in float32.
        min_samples: neighbours, the image itself included, that make a core image; at least 1.

    Returns:
        (N,) int64, 0..K-1 or OUTLIER.
    """
    if not compiled.available():
        return _dbscan(graph, eps, min_samples)
    from .kernels import dbscan as kernels

    arrays = (
        read_only(graph.indptr, np.int64),
        read_only(graph.indices, np.int32),
        read_only(graph.data, np.float32),
    )
    labels: np.ndarray = kernels.dbscan(*arrays, np.float32(eps), min_samples)
    return labels


def _dbscan(graph: csr_matrix, eps: float, min_samples: int) -> np.ndarray:
    """As `dbscan`, with SciPy."""
    near = graph.data <= np.float32(eps)
    columns = graph.indices[near]
    rows = np.repeat(np.arange(graph.shape[0], dtype=columns.dtype), np.diff(graph.indptr))[near]
    core = np.bincount(rows, minlength=graph.shape[0]) >= min_samples
    reached = core[columns]  # by a core image
    rows, columns = rows[reached], columns[reached]
    labels = np.full(graph.shape[0], OUTLIER, dtype=np.int64)
    inside = core[rows] & (rows > columns)
    edges = np.ones(np.count_nonzero(inside), dtype=np.int8), (rows[inside], columns[inside])
    component = connected_components(csr_matrix(edges, graph.shape), directed=False)[1][core]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    labels[core] = np.argsort(np.argsort(first))[inverse]
    border = np.flatnonzero(~core[rows])
    if len(border):
        own, nearest = rows[border], labels[columns[border]]
        begins = np.flatnonzero(np.diff(own, prepend=-1))
        labels[own[begins]] = np.minimum.reduceat(nearest, begins)
    return labels
