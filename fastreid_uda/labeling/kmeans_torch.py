"""k-means with torch, for a GPU. Imported only where it is asked for: it brings torch."""

from __future__ import annotations

import numpy as np
import torch

from .kmeans import choose_seeds
from .lloyd import TOLERANCE

_BLOCK_ROWS = 8192


def torch_kmeans(
    features: np.ndarray,
    num_clusters: int,
    *,
    n_init: int,
    max_iter: int,
    seed: int,
    device: str | None = None,
) -> np.ndarray:
    """As `kmeans.sklearn_kmeans`, up to rounding, on `device`: the GPU if there is one.

    Products are in float32, unless TF32 is switched on, and no sum depends on the order in which
    threads finish: the same seed gives the same labels.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows = torch.from_numpy(features).to(device)
    norms = rows.square().sum(dim=1)
    tolerance = TOLERANCE * float(rows.var(dim=0, correction=0).mean())

    def distances_from(images: np.ndarray) -> np.ndarray:
        chosen = torch.from_numpy(images).to(device)
        block = norms[chosen, None] + norms - 2 * (rows[chosen] @ rows.T)
        return block.clamp_(min=0).cpu().numpy()

    def run(images: np.ndarray) -> tuple[torch.Tensor, float]:
        centroids = rows[torch.from_numpy(images).to(device)]
        labels, distances = _iterate(rows, norms, centroids, max_iter, tolerance)
        return labels, float(distances.sum(dtype=torch.float64))

    seeds = choose_seeds(distances_from, len(features), num_clusters, n_init, seed)
    labels, _ = min(map(run, seeds), key=lambda result: result[1])
    return labels.cpu().numpy()


def _iterate(
    rows: torch.Tensor,
    norms: torch.Tensor,
    centroids: torch.Tensor,
    max_iter: int,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lloyd's iterations: labels (N,) and squared distances (N,) to the centroids."""
    previous = None
    for _ in range(max_iter):
        labels, distances = _nearest(rows, norms, centroids)
        if previous is not None and torch.equal(labels, previous):
            return labels, distances
        previous, before = labels, centroids
        centroids = _means(rows, _without_empty(labels, distances, len(before)), before)
        if float((centroids - before).square().sum()) <= tolerance:
            break
    return _nearest(rows, norms, centroids)


def _nearest(
    rows: torch.Tensor, norms: torch.Tensor, centroids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    half = centroids.square().sum(dim=1) / 2
    found = [(half - block @ centroids.T).min(dim=1) for block in rows.split(_BLOCK_ROWS)]
    distances = (norms + 2 * torch.cat([block.values for block in found])).clamp_(min=0)
    return torch.cat([block.indices for block in found]), distances


def _without_empty(
    labels: torch.Tensor, distances: torch.Tensor, num_clusters: int
) -> torch.Tensor:
    """The labels, but each empty cluster takes one of the images farthest from their centroids."""
    empty = torch.nonzero(torch.bincount(labels, minlength=num_clusters) == 0)[:, 0]
    return labels.index_copy(0, distances.topk(len(empty)).indices, empty)


def _means(rows: torch.Tensor, labels: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Mean of the rows of each label; an unused label keeps its centroid."""
    names = torch.arange(len(centroids), device=rows.device)[:, None]
    sums = torch.zeros_like(centroids)
    # A product with zeros and ones: index_add_ on a GPU sums in an order that changes.
    for block, of_block in zip(rows.split(_BLOCK_ROWS), labels.split(_BLOCK_ROWS), strict=True):
        sums += (of_block == names).to(rows.dtype) @ block
    counts = torch.bincount(labels, minlength=len(centroids))[:, None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
