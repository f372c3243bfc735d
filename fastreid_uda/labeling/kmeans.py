"""k-means: seeds for several runs side by side, then scikit-learn's iterations.

With hundreds of clusters of thousands of dimensions, most of scikit-learn's time goes into the
seeds: every candidate costs a pass over all features, in double precision.

Reference: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import sklearn.cluster
from sklearn.exceptions import ConvergenceWarning

from .neighbors import squared_norms

TOLERANCE = 1e-4
"""A run ends when the squared moves of the centroids, over the mean variance, sum to less."""


def sklearn_kmeans(
    features: np.ndarray, num_clusters: int, *, n_init: int, max_iter: int, seed: int
) -> np.ndarray:
    """Labels of the run with the smallest inertia, by scikit-learn.

    Args:
        features: (N, D) float32, best with a mean of zero: rounding grows with the norms.
        num_clusters: K, 1 to N.
        n_init: runs.
        max_iter: iterations of a run.
        seed: of the choice of the seeds.

    Returns:
        (N,) integers in 0..K-1; a label is unused if fewer than K images are distinct.
    """
    norms = squared_norms(features)

    def distances_from(images: np.ndarray) -> np.ndarray:
        # This order of the product is the fast one where the candidates are few.
        block = np.ascontiguousarray((features @ features[images].T).T)
        block *= -2
        block += norms
        block += norms[images, None]
        return np.maximum(block, 0, out=block)

    seeds = choose_seeds(distances_from, len(features), num_clusters, n_init, seed)
    runs = (_run(features, features[images], max_iter) for images in seeds)
    return min(runs, key=lambda run: run.inertia_).labels_


def _run(features: np.ndarray, centroids: np.ndarray, max_iter: int) -> sklearn.cluster.KMeans:
    kmeans = sklearn.cluster.KMeans(
        len(centroids),
        init=centroids,
        n_init=1,
        max_iter=max_iter,
        tol=TOLERANCE,
        algorithm="lloyd",  # Elkan's iterations give the same clusters, and are not faster here
        random_state=0,  # nothing is left to chance, and the global generator is not asked
    )
    with warnings.catch_warnings():
        # It says that there are fewer distinct images than clusters; the caller does too.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit(features)


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
    num_trials = 2 + int(np.log(num_clusters))
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


def _proportional(weights: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Positions (T,) with probabilities proportional to weights (N,), from draws (T,) in [0, 1)."""
    cumulated = np.cumsum(weights, dtype=np.float64)
    positions = np.searchsorted(cumulated, draws * cumulated[-1])
    return np.minimum(positions, len(weights) - 1)
