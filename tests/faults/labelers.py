"""Labelers for features on a line and for small clusters on a sphere."""

import numpy as np

from fastreid_uda.labeling.clustering import DBSCAN, HDBSCAN, KMeans
from fastreid_uda.labeling.distances import CAJaccard, Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.types import FeatureSet

DISTANCES = {
    "Jaccard": (Jaccard(k1=6, k2=2, backend="numpy"), 0.6),
    "CAJaccard": (CAJaccard(k1_intra=3, k1_inter=6, backend="numpy"), 0.6),
    "Cosine": (Cosine(), 0.4),
    "Euclidean": (Euclidean(), 0.9),
}
CLUSTERERS = {
    "DBSCAN": DBSCAN(2),
    "HDBSCAN": HDBSCAN(max_distance=0.9),
    "KMeans": KMeans(num_clusters=2),
}


def make_labeler(distance="Jaccard", clusterer="DBSCAN", **changes):
    measure, eps = DISTANCES[distance]
    chosen = CLUSTERERS[clusterer] if isinstance(clusterer, str) else clusterer
    options = {"distance": measure, "eps": FixedEps(eps), "clusterer": chosen}
    return PseudoLabeler(**(options | changes))


def line_labeler(eps=1.0, min_samples=4, **changes):
    """Euclidean distances of the features as they are."""
    return make_labeler(
        "Euclidean",
        eps=FixedEps(eps),
        clusterer=DBSCAN(min_samples),
        row_normalization=False,
        **changes,
    )


def on_a_line(positions, camera_ids=None):
    points = np.array(positions, dtype=np.float32)[:, None]
    return FeatureSet({"global": points}, None if camera_ids is None else np.array(camera_ids))
