"""Camera-aware Jaccard distance: mutual neighbours of the own and of the other cameras.

Images of one camera look alike, so they fill the neighbour lists of the Jaccard distance and leave
few places to the same person in other cameras. Two lists, of the own camera and of all others, give
both their places.

Reference: Chen, Fan, Chen and Zhu, "CA-Jaccard: Camera-aware Jaccard Distance for Person
Re-identification", CVPR 2024, https://arxiv.org/abs/2311.10605.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from .jaccard import average_weights, jaccard_distances, neighbor_weights, reciprocal_sets
from .neighbors import nearest_neighbors

_KEY = "UDA.DISTANCE.CAJACCARD.BACKEND"


def camera_aware_jaccard(
    features: np.ndarray,
    camera_ids: np.ndarray,
    *,
    k1: tuple[int, int],
    k2: tuple[int, int],
    backend: str = "auto",
    precision: str = "float32",
    limit: float = 1.0,
) -> csr_matrix:
    """Camera-aware Jaccard distances below 1 of all pairs; all other pairs are at distance 1.

    As `k_reciprocal_jaccard` with two neighbour lists instead of one, of the same camera (*intra*)
    and of all other cameras (*inter*), whose reciprocal sets are united and not expanded:

        R(i) = R_intra(i, k1_intra) united with R_inter(i, k1_inter)
        V_i = softmax(-d^2) over R(i), then the mean of V_j over the first k2_intra entries of the
        intra list and the first k2_inter of the inter list

    An image is the first of its own intra list, behind identical images of lower number, and not in
    its inter list. Lists are shorter where there are fewer images; means are over what there is.

    Args:
        features: (N, D) float32, unit rows, N >= 1.
        camera_ids: (N,) integers, at least 2 different ones.
        k1: k1_intra and k1_inter, at least 0. A list has one place more, as R(i, k) in `jaccard`.
        k2: k2_intra, at least 1, and k2_inter, at least 0.
        backend: of the neighbour search, see `nearest_neighbors`.
        precision: likewise.
        limit: only distances up to this are stored.

    Returns:
        As `k_reciprocal_jaccard`.
    """
    (intra, intra_squared), (inter, inter_squared) = neighbors_by_camera(
        features,
        camera_ids,
        max(k1[0] + 1, k2[0]),
        max(k1[1] + 1, k2[1]),
        backend=backend,
        precision=precision,
    )
    # The two sets of an image have no image in common: their sum is their union.
    sets = (reciprocal_sets(intra, k1[0]) + reciprocal_sets(inter, k1[1])).tocsr()
    lists, squared = np.hstack([intra, inter]), np.hstack([intra_squared, inter_squared])
    weights = neighbor_weights(features, sets, lists, squared)
    nearest = np.hstack([intra[:, : k2[0]], inter[:, : k2[1]]])
    return jaccard_distances(average_weights(weights, nearest), limit)


def neighbors_by_camera(
    features: np.ndarray,
    camera_ids: np.ndarray,
    k_intra: int,
    k_inter: int,
    *,
    backend: str = "auto",
    precision: str = "float32",
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The nearest rows of the same camera, and of all other cameras, of every row.

    Args:
        features: (N, D) float32.
        camera_ids: (N,) integers, at least 2 different ones.
        k_intra: neighbours of the same camera, the row itself included, at least 1.
        k_inter: neighbours of other cameras, at least 1.
        backend: see `nearest_neighbors`, which also says how equal distances are ordered.
        precision: likewise.

    Returns:
        Two pairs, intra and inter, of row numbers (N, k) int64, nearest first, and their squared
        distances, float32. Where there are fewer than k, -1 and infinity fill the row.
    """
    _, cameras = np.unique(camera_ids, return_inverse=True)
    intra, inter = (
        nearest_neighbors(
            features,
            k,
            backend=backend,
            precision=precision,
            groups=cameras,
            across=across,
            key=_KEY,
        )
        for k, across in ((k_intra, False), (k_inter, True))
    )
    return intra, inter
