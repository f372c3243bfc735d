"""Galleries of a test set that has none of its own: one random image of each identity.

Reference: Liu et al., Deep Relative Distance Learning: Tell the Difference Between Similar
Vehicles, CVPR 2016 (VehicleID). fast-reid draws one gallery when it reads the data set.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def draw_galleries(identities: np.ndarray, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of the queries and of the gallery of each draw, both ascending.

    Draw n is that of NumPy's generator with the seed n, whatever the seed of the run is: all runs
    are scored on the same galleries, and the first galleries of more draws are those of fewer.

    Args:
        identities: (N,) integers of all images, in an order that is the same on all machines.
        draws: how many galleries, at least 1.
    """
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(identities))
        first = np.unique(identities[order], return_index=True)[1]
        in_gallery = np.zeros(len(identities), dtype=bool)
        in_gallery[order[first]] = True
        yield np.flatnonzero(~in_gallery), np.flatnonzero(in_gallery)
