"""P2LR's uncertainty against its formulas in NumPy, in turn (A B A B), each in a fresh process.

The reference holds the scores of all images and classes, (N, K) in double precision, and what the
formulas make of them. Labels are those of the nearest of K random images; a fifth of the images is
left out. The features of the second network are the first's with noise.
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
from scipy.special import log_softmax
from tabulate import tabulate

from fastreid_uda.labeling.types import PseudoLabels, make_pseudo_labels, renumber
from fastreid_uda.labeling.uncertainty import divergence_between, divergence_from_ideal

SCALE, PEAK, CAMERAS, OUTLIERS = 20.0, 0.99, 6, 0.2


def dense_log_p(features: np.ndarray, labels: PseudoLabels) -> np.ndarray:
    """(N', K) float64 of the images that have a label."""
    kept = features[labels.kept].astype(np.float64)
    return log_softmax(SCALE * (kept @ labels.centroids.astype(np.float64).T), axis=1)


def ideal_ours(features: np.ndarray, others: np.ndarray, labels: PseudoLabels) -> np.ndarray:
    return divergence_from_ideal(features, labels, SCALE, PEAK)[labels.kept]


def between_ours(features: np.ndarray, others: np.ndarray, labels: PseudoLabels) -> np.ndarray:
    return divergence_between(features, others, labels, SCALE)[labels.kept]


def ideal_dense(features: np.ndarray, others: np.ndarray, labels: PseudoLabels) -> np.ndarray:
    log_p = dense_log_p(features, labels)
    q = np.full(log_p.shape, (1 - PEAK) / (log_p.shape[1] - 1))
    q[np.arange(len(q)), labels.labels[labels.kept]] = PEAK
    return (q * (np.log(q) - log_p)).sum(axis=1)


def between_dense(features: np.ndarray, others: np.ndarray, labels: PseudoLabels) -> np.ndarray:
    log_p, log_other = dense_log_p(features, labels), dense_log_p(others, labels)
    return (np.exp(log_p) * (log_p - log_other)).sum(axis=1)


RUNS = {
    ("ideal", "ours"): ideal_ours,
    ("ideal", "dense"): ideal_dense,
    ("between", "ours"): between_ours,
    ("between", "dense"): between_dense,
}


def measure(what: str, who: str, images: int, dim: int, classes: int) -> None:
    """One measurement in this process; prints one JSON line."""
    features = person_features(images, dim, CAMERAS)[0]
    rng = np.random.default_rng(1)
    nearest = (features @ features[rng.choice(images, classes, replace=False)].T).argmax(axis=1)
    nearest[rng.random(images) < OUTLIERS] = -1
    labels = make_pseudo_labels(renumber(nearest)[0], features)
    others = features + np.float32(0.3 / np.sqrt(dim)) * rng.standard_normal(
        features.shape, dtype=np.float32
    )
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    small = make_pseudo_labels(np.arange(100) % 9, features[:100])
    run = RUNS[what, who]
    run(features[:100], others[:100], small)  # imports and compiling do not count
    result, figures = watched(lambda: run(features, others, labels))
    sample = result[:: max(1, len(result) // 2000)]
    print(json.dumps(figures | {"sample": sample.tolist()}))


def compare(args: argparse.Namespace) -> None:
    """A B A B for both divergences, and a table of medians."""
    rows, content = [], {}
    sizes = args.images, args.dim, args.classes
    for what in ("ideal", "between"):
        runs: dict[str, list[dict]] = {"dense": [], "ours": []}
        for _ in range(args.rounds):
            for who in runs:
                runs[who].append(in_fresh_process(__file__, ["--measure", what, who, *sizes]))
        samples = {who: np.array([run.pop("sample") for run in of]) for who, of in runs.items()}
        difference = float(np.abs(samples["ours"] - samples["dense"]).max())
        faster = ratios(runs["dense"], runs["ours"], "seconds")
        content[what] = {"runs": runs, "ratios": faster, "largest_difference": difference}
        for who, of in runs.items():
            rows.append([what, who, *(f"{median_of(of, name):.2f}" for name in ("seconds",
                         "cpu_seconds", "extra_mb")), "" if who == "dense" else
                         ", ".join(f"{ratio:.1f}" for ratio in faster)])  # fmt: skip
        print(f"{what}: largest difference {difference:.1e}", flush=True)
    headers = ["", "", "seconds", "CPU seconds", "extra MB", "times as fast"]
    print(f"{args.images} x {args.dim}, {args.classes} classes, scale {SCALE:g}")
    print(tabulate(rows, headers, disable_numparse=True))
    if args.json:
        write_json(args.json, {"sizes": sizes, **content})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12936)
    parser.add_argument("--classes", type=int, default=500)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4,000 images, one round")
    parser.add_argument("--json", metavar="FILE", help="write all figures to a file")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure[:2], *map(int, args.measure[2:]))
    else:
        if args.quick:
            args.images, args.classes, args.rounds = 4000, 250, 1
        compare(args)
