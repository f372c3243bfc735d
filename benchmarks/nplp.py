"""NPLP's eps and self-assessment scores against dense NumPy, side by side in one run (A B A B).

The dense versions are the formulas as they are printed, on the N x N float32 distances: eps by a
partition of all pairs across cameras, the scores by masks. Each measurement is a fresh process;
memory is counted above imports and features. CPU seconds say more than seconds on a machine that
has other work. Features are those of data.py; labels are random, with a fifth of the images left
out, since they do not change the work. `near` counts the pairs close to a radius and takes the
graph of those within it, as a round of DBSCAN does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from data import person_features
from harness import in_fresh_process, median_of, ratios, watched, write_json
from scipy.sparse import csr_matrix
from tabulate import tabulate

from fastreid_uda.labeling.distances import Euclidean
from fastreid_uda.labeling.eps import cross_camera_eps
from fastreid_uda.labeling.pairwise import ROUNDING
from fastreid_uda.labeling.self_assessment import cluster_scores

ALPHA, CAMERAS, PER_CLUSTER, OUTLIERS, RADIUS = 0.0012, 6, 17, 0.2, 0.8


def eps_ours(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(1,): eps by the labeling stage."""
    return np.array([cross_camera_eps(Euclidean().measure(features), camera_ids, ALPHA)])


def scores_ours(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K,): the score of each cluster by the labeling stage."""
    return cluster_scores(Euclidean().measure(features), labels)


def near_ours(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(2,): pairs whose place rounding decides, and pairs within the radius, both ways."""
    distances = Euclidean().measure(features)
    return np.array([distances.count_near(RADIUS), distances.within(RADIUS).nnz])


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


def near_dense(features: np.ndarray, camera_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(2,): likewise from the full matrix."""
    distances = dense_distances(features)
    np.fill_diagonal(distances, 0)
    graph = csr_matrix(np.where(distances <= np.float32(RADIUS), distances + 1, 0))
    near = np.abs(distances - RADIUS) <= ROUNDING
    return np.array([np.triu(near, 1).sum(), graph.nnz])


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
    ("near", "ours"): near_ours,
    ("near", "dense"): near_dense,
    ("scores", "ours"): scores_ours,
    ("scores", "dense"): scores_dense,
}


def measure(what: str, who: str, images: int, dim: int) -> None:
    """One measurement in this process; prints one JSON line."""
    features, _, camera_ids = person_features(images, dim, CAMERAS)
    rng = np.random.default_rng(1)
    labels = rng.integers(max(2, images // PER_CLUSTER), size=images)
    labels[rng.random(images) < OUTLIERS] = -1
    run = RUNS[what, who]
    run(features[:200], camera_ids[:200], labels[:200])  # imports and compiling do not count
    result, figures = watched(lambda: run(features, camera_ids, labels))
    print(json.dumps(figures | {"result": result.tolist()}))


def compare(images: int, args: argparse.Namespace) -> dict:
    """A B A B for each question, and a table of medians; all figures."""
    rows, content = [], {}
    for what in ("eps", "near", "scores"):
        runs: dict[str, list[dict]] = {} if args.no_dense else {"dense": []}
        runs["ours"] = []
        for _ in range(args.rounds):
            for who in runs:
                runs[who].append(in_fresh_process(__file__, ["--measure", what, who, images,
                                                             args.dim]))  # fmt: skip
        results = {who: np.array([run.pop("result") for run in of]) for who, of in runs.items()}
        content[what] = {"runs": runs}
        figures = ["", ""]
        if not args.no_dense:
            faster = ratios(runs["dense"], runs["ours"], "seconds")
            difference = float(np.abs(results["ours"] - results["dense"]).max())
            content[what] |= {"ratios": faster, "largest_difference": difference}
            figures = [", ".join(f"{ratio:.1f}" for ratio in faster), f"{difference:.1e}"]
        for who, of in runs.items():
            medians = [f"{median_of(of, n):.1f}" for n in ("seconds", "cpu_seconds", "extra_mb")]
            rows.append([what, who, *medians, *(figures if who == "ours" else ["", ""])])
    headers = ["", "", "seconds", "CPU seconds", "extra MB", "times as fast", "largest difference"]
    print(f"{images} x {args.dim}, {images // PER_CLUSTER} clusters, {CAMERAS} cameras")
    print(tabulate(rows, headers, disable_numparse=True) + "\n", flush=True)
    return content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[12936])
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="3,000 images, one round")
    parser.add_argument("--no-dense", action="store_true", help="ours only")
    parser.add_argument("--json", metavar="FILE", help="write all figures to a file")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure[:2], *map(int, args.measure[2:]))
    else:
        if args.quick:
            args.images, args.rounds = [3000], 1
        figures = {str(size): compare(size, args) for size in args.images}
        if args.json:
            write_json(args.json, figures)
