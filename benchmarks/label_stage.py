"""The pseudo-label stage against fast-reid's own code, side by side in one run (A B A B).

Ours: sparse k-reciprocal Jaccard and DBSCAN on its graph. fast-reid's: compute_jaccard_distance
with search_option=3 (CPU) and scikit-learn's DBSCAN on the dense matrix, with torch on the number
of threads that suits it best (tried first on 1,000 images). Each measurement is a fresh process;
memory is counted above imports and features. Features are synthetic: identity centres on a sphere,
camera shifts, noise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tabulate import tabulate

K1, K2, EPS, MIN_SAMPLES = 30, 6, 0.6, 4


def make_features(images: int, dim: int) -> np.ndarray:
    """(N, D) float32 unit rows: N / 17 identities, 6 cameras, a spectrum that falls as 1 / j."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(1 / np.arange(1, dim + 1))
    identities = rng.integers(max(2, images // 17), size=images)
    centers = rng.normal(size=(identities.max() + 1, dim)) * scale
    shifts = 0.3 * rng.normal(size=(6, dim)) * scale
    noise = rng.lognormal(-0.6, 0.4, size=(images, 1)) * rng.normal(size=(images, dim)) * scale
    x = centers[identities] + shifts[rng.integers(6, size=images)] + noise
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def label_ours(features: np.ndarray) -> np.ndarray:
    """Labels (N,) by our stage."""
    from fastreid_uda.labeling.clustering import DBSCAN
    from fastreid_uda.labeling.distances import Jaccard

    distances = Jaccard(K1, K2).measure(features)
    return DBSCAN(MIN_SAMPLES).cluster(features, distances, EPS, 0)


def label_fastreid(features: np.ndarray, threads: int) -> np.ndarray:
    """Labels (N,) by fast-reid's function and scikit-learn's DBSCAN."""
    import torch
    from sklearn.cluster import DBSCAN

    import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
    from fastreid.utils.compute_dist import compute_jaccard_distance  # isort: skip

    torch.set_num_threads(threads)
    distances = compute_jaccard_distance(torch.from_numpy(features), K1, K2, search_option=3)
    clusterer = DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1)
    return clusterer.fit_predict(distances)


def measure(who: str, images: int, dim: int, threads: int) -> None:
    """One measurement in this process; prints one JSON line."""
    from fastreid_uda.memory import peak_rss_mb

    features = make_features(images, dim)
    run = label_ours if who == "ours" else lambda x: label_fastreid(x, threads)
    run(features[:200])  # imports and first calls do not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_rss_mb()
    start = time.perf_counter()
    labels = np.asarray(run(features), dtype=np.int64)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(labels.tobytes()).hexdigest()[:12]
    extra = (peak_rss_mb() or 0) - (before or 0)
    print(json.dumps({"seconds": seconds, "extra_mb": extra, "labels": digest,
                      "clusters": int(labels.max()) + 1}))  # fmt: skip


def measured(who: str, images: int, dim: int, threads: int = 1) -> dict:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--measure", who, "--images", str(images),
               "--dim", str(dim), "--threads", str(threads)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(images: int, dim: int, rounds: int) -> None:
    """A B A B, and a table of medians."""
    small = {n: measured("fastreid", 1000, dim, n)["seconds"] for n in (1, 2)}
    threads = min(small, key=lambda n: small[n])
    runs: dict[str, list[dict]] = {"ours": [], "fastreid": []}
    for _ in range(rounds):
        for who in runs:
            runs[who].append(measured(who, images, dim, threads))
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(*runs.values(), strict=True)]
    rows = []
    for who, results in runs.items():
        medians = [statistics.median(r[key] for r in results) for key in ("seconds", "extra_mb")]
        times = ", ".join(f"{r['seconds']:.1f}" for r in results)
        rows.append([who, *medians, results[0]["clusters"], times])
    same = len({r["labels"] for results in runs.values() for r in results}) == 1
    print(f"{images} x {dim}, k1 {K1}, k2 {K2}, eps {EPS}; fast-reid on {threads} torch thread(s)")
    print(tabulate(rows, ["", "seconds", "extra MB", "clusters", "all seconds"], floatfmt=".1f"))
    print(f"ratio of the pairs: {', '.join(f'{r:.1f}' for r in ratios)}; labels equal: {same}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[4000, 12936])
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=("ours", "fastreid"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.images[0], args.dim, args.threads)
    else:
        for size in args.images:
            compare(size, args.dim, args.rounds)
