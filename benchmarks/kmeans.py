"""k-means of P2LR's sizes: scikit-learn as it is, ours on both back ends, and what was left out.

One round runs every variant once, each in a fresh process, with the same seed: scikit-learn's
KMeans with its own seeds (the reference), ours with the back ends sklearn and torch, and from our
seeds scikit-learn's Elkan and faiss. Features are those of label_stage.py. Prints one JSON line
per measurement and a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import sklearn.cluster
from label_stage import make_features
from tabulate import tabulate

from fastreid_uda.labeling import kmeans
from fastreid_uda.labeling.clustering import KMeans

VARIANTS = ("scikit-learn", "ours", "torch", "elkan", "faiss")


def by_sklearn(features: np.ndarray, clusters: int, n_init: int, seed: int) -> np.ndarray:
    """Labels (N,) by scikit-learn alone, seeds and iterations."""
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


def from_our_seeds(
    run: Callable, features: np.ndarray, clusters: int, n_init: int, seed: int
) -> np.ndarray:
    """Labels (N,) by ours with other iterations."""
    kmeans._run = run
    return by_ours(features, clusters, n_init, seed)


def elkan_run(features: np.ndarray, centroids: np.ndarray, max_iter: int) -> object:
    """One run of scikit-learn's Elkan."""
    run = sklearn.cluster.KMeans(
        len(centroids), init=centroids, n_init=1, max_iter=max_iter, algorithm="elkan"
    )
    return run.fit(features)


def faiss_run(features: np.ndarray, centroids: np.ndarray, max_iter: int) -> object:
    """One run of faiss on all images; it has no tolerance, so it ends after 30 iterations."""
    import faiss

    run = faiss.Kmeans(
        features.shape[1], len(centroids), niter=min(max_iter, 30), min_points_per_centroid=1,
        max_points_per_centroid=len(features),
    )  # fmt: skip
    run.train(features, init_centroids=centroids)
    run.labels_ = run.index.search(features, 1)[1][:, 0]
    run.inertia_ = run.obj[-1]
    return run


FUNCTIONS = {
    "scikit-learn": by_sklearn,
    "ours": by_ours,
    "torch": partial(by_ours, backend="torch"),
    "elkan": partial(from_our_seeds, elkan_run),
    "faiss": partial(from_our_seeds, faiss_run),
}


def measure(args: argparse.Namespace) -> None:
    """One measurement in this process; prints one JSON line."""
    features = make_features(args.images, args.dim)
    run = FUNCTIONS[args.measure]
    run(features[:300], 10, 1, 0)  # imports and first calls do not count
    start = time.perf_counter()
    labels = np.asarray(run(features, args.clusters, args.n_init, args.seed))
    seconds = time.perf_counter() - start
    inertia = 0.0
    for label in np.unique(labels):
        rows = features[labels == label].astype(np.float64)
        inertia += float(np.square(rows - rows.mean(axis=0)).sum())
    print(json.dumps({"variant": args.measure, "images": args.images, "clusters": args.clusters,
                      "n_init": args.n_init, "seed": args.seed, "seconds": round(seconds, 2),
                      "inertia": round(inertia, 3), "used": len(np.unique(labels)),
                      "machine": platform.processor() or platform.machine()}))  # fmt: skip


def measured(variant: str, seed: int, args: argparse.Namespace) -> dict:
    """One measurement in a fresh process."""
    options = {"images": args.images, "clusters": args.clusters, "dim": args.dim,
               "n-init": args.n_init, "seed": seed, "measure": variant}  # fmt: skip
    command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in options.items())]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # as tools/train_net.py has it
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    line = done.stdout.strip().splitlines()[-1]
    print(line, flush=True)
    return json.loads(line)


def compare(args: argparse.Namespace) -> None:
    """A B A B, and a table: medians, and ratios within the rounds."""
    rounds = [
        [measured(variant, args.seed + number, args) for variant in args.variants]
        for number in range(args.rounds)
    ]
    rows = []
    for position, variant in enumerate(args.variants):
        pairs = [(results[0], results[position]) for results in rounds]
        seconds = statistics.median(own["seconds"] for _, own in pairs)
        ratios = ", ".join(f"{first['seconds'] / own['seconds']:.2f}" for first, own in pairs)
        changes = ", ".join(f"{100 * (own['inertia'] / first['inertia'] - 1):+.3f}"
                            for first, own in pairs)  # fmt: skip
        rows.append([variant, f"{seconds:.1f}", ratios, changes])
    print(f"{args.images} x {args.dim}, {args.clusters} clusters, {args.n_init} run(s)")
    print(
        tabulate(rows, ["", "seconds", "times as fast", "inertia, % more"], disable_numparse=True)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12936)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--n-init", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS[:3])
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args)
    else:
        compare(args)
