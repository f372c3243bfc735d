"""What the camera-aware Jaccard distance and HDBSCAN change on features with camera shifts.

Pair F1, with every outlier as a cluster of its own.

Synthetic features: identity centres on a sphere, a shift of every camera, noise. The cameras of an
identity are few (2 to 4 of 6), as in the data sets. DBSCAN has the eps of a grid that is best by
the true identities, which a user does not know; HDBSCAN has none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tabulate import tabulate

from fastreid_uda.labeling.clustering import DBSCAN, HDBSCAN, Clusterer
from fastreid_uda.labeling.distances import CAJaccard, Distance, Jaccard
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.pipeline import LabelingCollapse, PseudoLabeler
from fastreid_uda.labeling.quality import score_against_identities
from fastreid_uda.labeling.types import OUTLIER, FeatureSet

EPS = np.arange(0.3, 0.85, 0.1)


def make_features(seed: int, shift: float, noise: float) -> tuple[FeatureSet, np.ndarray]:
    """About 2,000 images of 120 identities and 6 cameras, 128 dimensions, and the identities."""
    rng = np.random.default_rng(seed)
    seen = [(n, c) for n in range(120) for c in rng.choice(6, rng.integers(2, 5), replace=False)]
    identities, cameras = np.repeat(seen, rng.integers(3, 9, len(seen)), axis=0).T
    centers, shifts = rng.normal(size=(120, 128)), shift * rng.normal(size=(6, 128))
    x = centers[identities] + shifts[cameras] + noise * rng.normal(size=(len(identities), 128))
    return FeatureSet({"global": x.astype(np.float32)}, cameras), identities


def f1(labeler: PseudoLabeler, features: FeatureSet, identities: np.ndarray) -> float:
    """Pair F1 of a later round, every outlier a cluster of its own; 0 if it collapses."""
    try:
        labels = labeler(features, 1, 2).clusters["global"].labels
    except LabelingCollapse:
        return 0.0
    alone = labels.max() + 1 + np.arange(len(labels))
    labels = np.where(labels == OUTLIER, alone, labels)
    return score_against_identities(labels, identities)["pair_f1"]


def best(
    distance: Distance,
    clusterer: Clusterer,
    normalized: bool,
    features: FeatureSet,
    ids: np.ndarray,
) -> float:
    """Pair F1 at the best eps, if the clusterer has one."""
    scores = []
    for eps in EPS if clusterer.uses_eps else EPS[:1]:
        rule = FixedEps(float(eps))
        labeler = PseudoLabeler(distance, rule, clusterer, camera_normalization=normalized)
        scores.append(f1(labeler, features, ids))
    return max(scores)


def main() -> None:
    """Print the table: mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shifts", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--noise", type=float, default=1.6)
    args = parser.parse_args()
    sets = {(s, n): make_features(n, s, args.noise) for s in args.shifts for n in args.seeds}
    rows = []
    for normalized in (False, True):
        for distance in (Jaccard(), CAJaccard()):
            for clusterer in (DBSCAN(), HDBSCAN()):
                row = [
                    "yes" if normalized else "no",
                    *(type(x).__name__ for x in (distance, clusterer)),
                ]
                for shift in args.shifts:
                    scores = [
                        best(distance, clusterer, normalized, *sets[shift, n]) for n in args.seeds
                    ]
                    row.append(f"{100 * np.mean(scores):.1f} +- {100 * np.std(scores):.1f}")
                rows.append(row)
    heads = ["camera normalisation", "distance", "clusterer", *(f"shift {s}" for s in args.shifts)]
    print(tabulate(rows, heads, tablefmt="github"))


if __name__ == "__main__":
    main()
