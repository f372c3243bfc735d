"""Inputs of a refiner: two views with labels, outliers and what P2LR and INCLR read beside them."""

import numpy as np

from fastreid_uda.labeling.refiners import RefinerInputs
from fastreid_uda.labeling.types import OUTLIER, FeatureSet, make_pseudo_labels


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def make_inputs(round_index=0, num_rounds=5, num=60, seed=0, labels=None, views=("global", "top")):
    """Images around 6 directions, views of 8 and 5 dimensions, a tenth without a label in each."""
    rng = np.random.default_rng(seed)
    people = rng.integers(6, size=num)
    features, clusters = {}, {}
    for view, dim in zip(views, (8, 5), strict=False):
        x = rng.normal(size=(6, dim))[people] + 0.8 * rng.normal(size=(num, dim))
        features[view] = unit(x)
        y = np.where(rng.random(num) < 0.1, OUTLIER, people) if labels is None else labels[view]
        clusters[view] = make_pseudo_labels(np.asarray(y), features[view])
    x = features["global"]
    extras = {
        "student/global": 3 * unit(x + 0.1 * rng.normal(size=x.shape)),  # of any length
        "unnormalized/global": (7 * x * rng.random((num, 1))).astype(np.float32),
    }
    features = FeatureSet(features, rng.integers(2, size=num), extras)
    return RefinerInputs(features, features, {}, clusters, {}, round_index, num_rounds)


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()
