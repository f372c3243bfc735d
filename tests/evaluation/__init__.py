"""People to score, and the definition of the scores, for the tests of this folder."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class People(NamedTuple):
    """The positional arguments of `evaluate_ranking`, in its order."""

    query_features: np.ndarray
    gallery_features: np.ndarray
    query_identities: np.ndarray
    gallery_identities: np.ndarray
    query_camera_ids: np.ndarray
    gallery_camera_ids: np.ndarray


def make_people(
    num_queries=40, num_gallery=150, identities=12, cameras=3, dimensions=16, seed=0, tied=False
) -> People:
    """Random people; with `tied`, features are 0 or 1, so that distances are often equal."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(identities, dimensions))
    rows = num_queries + num_gallery
    of = rng.integers(identities, size=rows)
    features = centers[of] + 1.5 * rng.normal(size=(rows, dimensions))
    if tied:
        features = rng.integers(0, 2, size=(rows, dimensions))
    features = features.astype(np.float32)
    camera_ids = rng.integers(cameras, size=rows)
    q = num_queries
    return People(features[:q], features[q:], of[:q], of[q:], camera_ids[:q], camera_ids[q:])


def naive_scores(distances, q_ids, g_ids, q_cams, g_cams, max_rank):
    """The definition, query by query: (cmc, AP of valid queries, INP of valid queries)."""
    curves, aps, inps = [], [], []
    for row, identity, camera in zip(distances, q_ids, q_cams, strict=True):
        order = np.argsort(row, kind="stable")
        order = order[(g_ids[order] != identity) | (g_cams[order] != camera)]
        ranks = 1 + np.flatnonzero(g_ids[order] == identity)
        if len(ranks):
            curves.append([float(ranks[0] <= k) for k in range(1, max_rank + 1)])
            aps.append(np.mean([(hits + 1) / rank for hits, rank in enumerate(ranks)]))
            inps.append(len(ranks) / ranks[-1])
    return np.mean(curves, axis=0), np.array(aps), np.array(inps)
