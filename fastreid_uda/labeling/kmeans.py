"""k-means on the CPU: scikit-learn's choices, without its passes in double precision.

With hundreds of clusters of thousands of dimensions, most of scikit-learn's time goes into the
seeds: every candidate costs a pass over all features.

Reference: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .lloyd import LLOYD_BLOCKS, lloyd, products
from .row_distances import squared_norms


def sklearn_kmeans(
    features: np.ndarray, num_clusters: int, *, n_init: int, max_iter: int, seed: int
) -> np.ndarray:
    """Labels of the run with the smallest inertia, as scikit-learn's, up to rounding.

    Args:
        features: (N, D) float32, best with a mean of zero: rounding grows with the norms.
        num_clusters: K, 1 to N.
        n_init: runs.
        max_iter: iterations of a run.
        seed: of the choice of the seeds.

    Returns:
        (N,) integers in 0..K-1; a label is unused if fewer than K images are distinct.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    norms = squared_norms(features)
    seeds = sklearn_seeds(features, norms, num_clusters, n_init, seed)
    runs = (lloyd(features, norms, features[images], max_iter) for images in seeds)
    return min(runs, key=lambda run: run.inertia).labels


def sklearn_seeds(
    features: np.ndarray, norms: np.ndarray, num_clusters: int, num_runs: int, seed: int
) -> np.ndarray:
    """As `choose_seeds`, (num_runs, K) int64, from features (N, D) float32 and squared norms."""

    def distances_from(images: np.ndarray) -> np.ndarray:
        block = products(features, features[images])
        block *= -2
        block += norms
        block += norms[images, None]
        return np.maximum(block, 0, out=block)

    return choose_seeds(distances_from, len(features), num_clusters, num_runs, seed)


def choose_seeds(
    distances_from: Callable[[np.ndarray], np.ndarray],
    num_images: int,
    num_clusters: int,
    num_runs: int,
    seed: int,
) -> np.ndarray:
    """The images at which the centroids of each run start, by greedy k-means++.

    The random numbers and the choices are those of scikit-learn's KMeans(random_state=seed), run
    after run, up to rounding. One matrix product serves the candidates of all runs.

    Args:
        distances_from: squared distances (M, N) float32 >= 0 from M images, given by number, to
            all; the result is written to.
        num_images: N.
        num_clusters: K, 1 to N.
        num_runs: how many sets of seeds to choose.
        seed: of the random choices.

    Returns:
        Image numbers (num_runs, K) int64.
    """
    num_trials = _num_trials(num_clusters)
    random = np.random.RandomState(seed)  # not default_rng: scikit-learn's numbers are wanted
    draws = random.uniform(size=(num_runs, 1 + (num_clusters - 1) * num_trials))
    runs = np.arange(num_runs)
    seeds = np.empty((num_runs, num_clusters), dtype=np.int64)
    seeds[:, 0] = draws[:, 0] * num_images
    draws = draws[:, 1:].reshape(num_runs, num_clusters - 1, num_trials)
    nearest = distances_from(seeds[:, 0])
    for position in range(1, num_clusters):
        candidates = np.stack([_proportional(nearest[r], draws[r, position - 1]) for r in runs])
        block = distances_from(candidates.ravel()).reshape(num_runs, num_trials, num_images)
        np.minimum(block, nearest[:, None], out=block)
        best = block.sum(axis=2).argmin(axis=1)
        seeds[:, position] = candidates[runs, best]
        nearest = block[runs, best]
    return seeds


def _num_trials(num_clusters: int) -> int:
    """Candidates for each seed, as many as scikit-learn tries."""
    return 2 + int(np.log(num_clusters))


def _proportional(weights: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Positions (T,) with probabilities proportional to weights (N,), from draws (T,) in [0, 1)."""
    cumulated = np.cumsum(weights, dtype=np.float64)
    positions = np.searchsorted(cumulated, draws * cumulated[-1])
    return np.minimum(positions, len(weights) - 1)


def kmeans_memory(num_images: int, dimension: int, num_clusters: int, num_runs: int) -> int:
    """Bytes above centred features that the seeds and the iterations take, an upper estimate."""
    candidates = num_runs * _num_trials(num_clusters)
    # Products with all candidates, as they come and turned; a copy of those that are chosen.
    seeds = 4 * num_images * (2 * candidates + 2 * num_runs) + 4 * candidates * dimension
    # Centroids twice, their sums in float64, and what is replaced of both.
    centroids = num_clusters * dimension * (4 + 4 + 8 + 8 + 4)
    return seeds + centroids + 40 * num_images + LLOYD_BLOCKS
