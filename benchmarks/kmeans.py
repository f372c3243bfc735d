"""k-means of P2LR's sizes: scikit-learn as it is, and ours with each back end (A B A B).

One round runs every variant once, each in a fresh process, with the same seed; the next round takes
the next seed. The reference is scikit-learn's KMeans with its own seeds. Memory is counted above
imports and features; features are those of data.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import sklearn.cluster
from data import person_features
from harness import in_fresh_process, median_of, ratios, watched, write_json
from tabulate import tabulate

from fastreid_uda.labeling.clustering import KMeans

CAMERAS = 6


def by_sklearn(features: np.ndarray, clusters: int, n_init: int, seed: int) -> np.ndarray:
    """Labels (N,) by scikit-learn alone, seeds and iterations; it takes the mean out itself."""
    run = sklearn.cluster.KMeans(
        clusters, n_init=n_init, max_iter=300, tol=1e-4, algorithm="lloyd", random_state=seed
    )
    return run.fit(features).labels_


def by_ours(
    features: np.ndarray, clusters: int, n_init: int, seed: int, backend: str = "sklearn"
) -> np.ndarray:
    """Labels (N,) by the clusterer of the labeling stage."""
    clusterer = KMeans(clusters, n_init=n_init, backend=backend)
    return clusterer.cluster(features, None, None, seed)


FUNCTIONS = {
    "scikit-learn": by_sklearn,
    "ours": by_ours,
    "torch": partial(by_ours, backend="torch"),
    "faiss": partial(by_ours, backend="faiss"),
}


def measure(variant: str, images: int, dim: int, clusters: int, n_init: int, seed: int) -> None:
    """One measurement in this process; prints one JSON line."""
    features = person_features(images, dim, CAMERAS)[0]
    run = FUNCTIONS[variant]
    run(features[:300], 10, 1, 0)  # imports and compiling do not count
    labels, figures = watched(lambda: np.asarray(run(features, clusters, n_init, seed)))
    inertia = 0.0
    for label in np.unique(labels):
        rows = features[labels == label].astype(np.float64)
        inertia += float(np.square(rows - rows.mean(axis=0)).sum())
    print(json.dumps(figures | {"inertia": inertia, "used": len(np.unique(labels))}))


def compare(args: argparse.Namespace) -> None:
    """A B A B, and a table: medians, and ratios within the rounds."""
    runs: dict[str, list[dict]] = {variant: [] for variant in args.variants}
    for number in range(args.rounds):
        for variant, of in runs.items():
            sizes = args.images, args.dim, args.clusters, args.n_init, args.seed + number
            of.append(in_fresh_process(__file__, ["--measure", variant, *sizes]))
            print(variant, of[-1], flush=True)
    first = runs[args.variants[0]]
    content, rows = {}, []
    for variant, of in runs.items():
        faster = ratios(first, of, "seconds")
        more = [100 * (ratio - 1) for ratio in ratios(of, first, "inertia")]
        content[variant] = {"runs": of, "ratios": faster, "inertia_percent_more": more}
        rows.append([variant, *(f"{median_of(of, name):.1f}" for name in ("seconds", "cpu_seconds",
                     "extra_mb")), ", ".join(f"{ratio:.2f}" for ratio in faster),
                     ", ".join(f"{change:+.3f}" for change in more)])  # fmt: skip
    headers = ["", "seconds", "CPU seconds", "extra MB", "times as fast", "inertia, % more"]
    print(f"{args.images} x {args.dim}, {args.clusters} clusters, {args.n_init} run(s)")
    print(tabulate(rows, headers, disable_numparse=True))
    if args.json:
        write_json(args.json, content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12936)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--n-init", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--variants", nargs="+", choices=FUNCTIONS, default=["scikit-learn", "ours"]
    )
    parser.add_argument("--quick", action="store_true", help="2,000 images, one round")
    parser.add_argument("--json", metavar="FILE", help="write all figures to a file")
    parser.add_argument("--measure", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], *map(int, args.measure[1:]))
    else:
        if args.quick:
            args.images, args.clusters, args.rounds = 2000, 80, 1
        compare(args)
