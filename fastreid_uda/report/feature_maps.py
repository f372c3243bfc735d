"""2-D maps of the features of several rounds that can be compared with each other."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes
from sklearn.manifold import TSNE
from tqdm import tqdm

PERPLEXITY = 30.0
FIRST_STEPS, LATER_STEPS = 500, 300
"""Steps of t-SNE: the first map begins with principal components, others with the one before."""


@dataclass(frozen=True)
class PlaneMap:
    """The places of M images.

    Attributes:
        number: of the round.
        rows: (M,) int64, the images.
        places: (M, 2) float64, mean 0; the mean square of their distance from it is 1.
        variance: the share of the variance of the features that t-SNE was given; None: not known.
    """

    number: int
    rows: np.ndarray
    places: np.ndarray
    variance: float | None


def rounds_to_map(numbers: list[int], most: int) -> list[int]:
    """At most so many of the rounds, evenly spaced, the first and the last among them."""
    if most <= 0 or not numbers:
        return []
    if most == 1:
        return [numbers[-1]]
    places = np.unique(np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round())
    return [numbers[int(place)] for place in places]


def draw_maps(
    rounds: Iterable[tuple[int, np.ndarray, np.ndarray, float | None]], seed: int = 0
) -> tuple[list[PlaneMap], float]:
    """t-SNE of each round, which begins with the map of the round before.

    Args:
        rounds: number, rows (M,), features (M, P) and their share of the variance, in order.
        seed: of t-SNE.

    Returns:
        The maps, turned so that each lies on the one before as well as it can, and the seconds.
    """
    start = time.perf_counter()
    maps: list[PlaneMap] = []
    bar = tqdm(list(rounds), "map", leave=False, disable=None)
    for number, rows, features, variance in bar:
        before = maps[-1] if maps else None
        places = _embed(features.astype(np.float32), _start(rows, before), seed)
        maps.append(PlaneMap(number, rows, _laid_on(rows, places, before), variance))
    return maps, time.perf_counter() - start


def _embed(features: np.ndarray, begin: np.ndarray | None, seed: int) -> np.ndarray:
    """(M, 2); t-SNE needs some images, fewer lie on their first two components."""
    if len(features) < 5 or not np.ptp(features, axis=0).any():
        return _two_columns(features)
    steps = FIRST_STEPS if begin is None else LATER_STEPS
    # scikit-learn 1.5 renamed the argument.
    name = "max_iter" if "max_iter" in inspect.signature(TSNE).parameters else "n_iter"
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
        init=_small(_two_columns(features) if begin is None else begin),
        learning_rate="auto",
        random_state=seed,
        **{name: steps},
    )
    places: np.ndarray = tsne.fit_transform(features)
    return places.astype(np.float64)


def _two_columns(features: np.ndarray) -> np.ndarray:
    """The first two principal components, which the features begin with."""
    places = np.zeros((len(features), 2))
    places[:, : min(2, features.shape[1])] = features[:, :2]
    return places


def _small(places: np.ndarray) -> np.ndarray:
    """As small as t-SNE wants its first places to be, none on another."""
    places = places - places.mean(axis=0)
    spread = places[:, 0].std() or 1.0
    jitter = np.random.default_rng(0).normal(scale=1e-6, size=places.shape)
    return (1e-4 * places / spread + jitter).astype(np.float32)


def _start(rows: np.ndarray, before: PlaneMap | None) -> np.ndarray | None:
    """The places of the map before; the middle for images that it does not hold."""
    if before is None:
        return None
    places = np.zeros((len(rows), 2))
    _, ours, theirs = np.intersect1d(rows, before.rows, return_indices=True)
    places[ours] = before.places[theirs]
    return places


def _laid_on(rows: np.ndarray, places: np.ndarray, before: PlaneMap | None) -> np.ndarray:
    """Centred, of unit size, and turned or mirrored to be like the map before."""
    places = places - places.mean(axis=0)
    size = np.sqrt((places**2).sum(axis=1).mean())
    places = places / (size or 1.0)
    if before is None:
        return places
    _, ours, theirs = np.intersect1d(rows, before.rows, return_indices=True)
    if len(ours) < 3:
        return places
    turn, _ = orthogonal_procrustes(places[ours], before.places[theirs])
    return places @ turn
