"""NPLP's eps and self-assessment scores against dense NumPy, side by side in one run (A B A B).

The dense versions are the formulas as they are printed, on the N x N float32 distances: eps by a
partition of all pairs across cameras, the scores by masks. Each measurement is a fresh process;
memory is counted above imports and features. CPU seconds say more than seconds on a machine that
has other work. Features are those of label_stage.py; cameras and
labels are drawn at random, with a fifth of the images left out, since neither changes the work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from label_stage import make_features
from tabulate import tabulate

from fastreid_uda.labeling.distances import Euclidean
from fastreid_uda.labeling.eps import cross_camera_eps
from fastreid_uda.labeling.self_assessment import cluster_scores
from fastreid_uda.memory import peak_rss_mb

ALPHA, CAMERAS, PER_CLUSTER, OUTLIERS = 0.0012, 6, 17, 0.2


def eps_ours(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(1,): eps by the labeling stage."""
    return np.array([cross_camera_eps(Euclidean().measure(features), camera_ids, ALPHA)])


def scores_ours(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K,): the score of each cluster by the labeling stage."""
    return cluster_scores(Euclidean().measure(features), labels)


def dense_distances(features: np.ndarray) -> np.ndarray:
    """(N, N) float32, of unit rows."""
    distances = features @ features.T
    distances *= -2
    distances += 2
    return np.sqrt(np.maximum(distances, 0, out=distances), out=distances)


def eps_dense(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(1,): Eq. 4 on the full matrix."""
    across = np.triu(camera_ids[:, None] != camera_ids, 1)
    pairs = dense_distances(features)[across]
    count = max(1, round(ALPHA * len(pairs)))
    return np.array([np.partition(pairs, count - 1)[:count].mean(dtype=np.float64)])


def scores_dense(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K,): Eq. 6 to 8 on the full matrix."""
    distances = dense_distances(features)
    np.fill_diagonal(distances, 0)
    kept = labels >= 0
    same = (labels[:, None] == labels) & kept
    others = (labels[:, None] != labels) & kept
    a = np.sum(distances, axis=1, where=same, dtype=np.float64)
    a /= np.maximum(same.sum(axis=1) - 1, 1)
    b = np.sum(distances, axis=1, where=others, dtype=np.float64) / others.sum(axis=1)
    scores = np.where(same.sum(axis=1) > 1, (b - a) / np.maximum(a, b), 0)
    return np.bincount(labels[kept], scores[kept]) / np.maximum(np.bincount(labels[kept]), 1)


RUNS = {
    ("eps", "ours"): eps_ours,
    ("eps", "dense"): eps_dense,
    ("scores", "ours"): scores_ours,
    ("scores", "dense"): scores_dense,
}


def measure(what: str, who: str, images: int, dim: int) -> None:
    """One measurement in this process; prints one JSON line."""
    rng = np.random.default_rng(1)
    features, camera_ids = make_features(images, dim), rng.integers(CAMERAS, size=images)
    labels = rng.integers(max(2, images // PER_CLUSTER), size=images)
    labels[rng.random(images) < OUTLIERS] = -1
    run = RUNS[what, who]
    run(features[:200], camera_ids[:200], labels[:200])  # imports and first calls do not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_rss_mb() or 0
    start, cpu_start = time.perf_counter(), time.process_time()
    result = run(features, camera_ids, labels)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    extra = (peak_rss_mb() or 0) - before
    print(json.dumps({"seconds": seconds, "cpu": cpu, "extra_mb": extra,
                      "result": result.tolist()}))  # fmt: skip


def measured(what: str, who: str, images: int, dim: int) -> dict:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--measure", what, who, "--images", str(images),
               "--dim", str(dim)]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(images: int, dim: int, rounds: int, dense: bool) -> None:
    """A B A B for each of the two, and a table of medians."""
    rows = []
    for what in ("eps", "scores"):
        runs: dict[str, list[dict]] = {"ours": [], "dense": []} if dense else {"ours": []}
        for _ in range(rounds):
            for who in runs:
                runs[who].append(measured(what, who, images, dim))
        for who, results in runs.items():
            medians = [
                statistics.median(r[key] for r in results) for key in ("seconds", "cpu", "extra_mb")
            ]
            times = ", ".join(f"{r['seconds']:.1f}" for r in results)
            difference = np.subtract(results[0]["result"], runs["ours"][0]["result"])
            rows.append([what, who, *medians, times, f"{np.abs(difference).max():.1e}"])
    headers = ["", "", "seconds", "CPU seconds", "extra MB", "all seconds", "largest difference"]
    print(f"{images} x {dim}, {images // PER_CLUSTER} clusters, {CAMERAS} cameras")
    print(tabulate(rows, headers, floatfmt=".1f", disable_numparse=[5, 6]) + "\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[12936])
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-dense", action="store_true", help="ours only")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure, args.images[0], args.dim)
    else:
        for size in args.images:
            compare(size, args.dim, args.rounds, not args.no_dense)
