"""k-means with faiss. Imported only where it is asked for."""

from __future__ import annotations

import faiss
import numpy as np

from .kmeans import sklearn_seeds
from .row_distances import squared_norms


def faiss_kmeans(
    features: np.ndarray,
    num_clusters: int,
    *,
    n_init: int,
    max_iter: int,
    seed: int,
    gpu: bool | None = None,
) -> np.ndarray:
    """As `kmeans.sklearn_kmeans`, with faiss's iterations: on all GPUs, if faiss sees any.

    The seeds are k-means++ on the CPU, not faiss's random images: they decide the inertia. faiss
    stops early only where nothing changes any more, and splits a large cluster where one is empty.

    Args:
        features: (N, D) float32, contiguous.
        num_clusters: K, 1 to N.
        n_init: runs.
        max_iter: iterations of a run.
        seed: of the choice of the seeds.
        gpu: whether to use the GPUs; None: if there are any.
    """
    if gpu is None:
        gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    features = np.ascontiguousarray(features, dtype=np.float32)
    norms = squared_norms(features)
    runs = []
    for images in sklearn_seeds(features, norms, num_clusters, n_init, seed):
        run = faiss.Kmeans(
            features.shape[1],
            num_clusters,
            niter=max_iter,
            seed=seed % (1 << 31),
            gpu=gpu,
            min_points_per_centroid=1,  # no warning, and no sampling: all images count
            max_points_per_centroid=len(features),
        )
        run.train(features, init_centroids=features[images])
        distances, labels = run.index.search(features, 1)
        runs.append((float(distances.sum(dtype=np.float64)), labels[:, 0]))
    return min(runs, key=lambda run: run[0])[1].astype(np.int64)
