"""The k nearest neighbours of all images: ours and faiss's flat index, side by side (A B A B).

One round runs every variant once, each in a fresh process; the next round does it again. A process
first measures the rate of a large float32 matrix product of the same rows, which bounds what any
exact search by products can reach; `share` is the rate of the search over it, counted on the
products that the search has to do: half of them for ours on the CPU, as the matrix is symmetric.
Memory is counted above imports and features; features are those of data.py. Recall is over a sample
of rows, against distances in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from data import person_features
from harness import WITHOUT_KERNELS, in_fresh_process, median_of, ratios, watched, write_json
from tabulate import tabulate

from fastreid_uda.labeling.neighbors import nearest_neighbors

CAMERAS = 6
PRODUCT_ROWS = 4096
SAMPLE = 200


def by_ours(features: np.ndarray, k: int, **options: str | bool) -> np.ndarray:
    """Neighbours (N, k) of the labeling stage."""
    return nearest_neighbors(features, k, **options)[0]


def by_faiss(features: np.ndarray, k: int, threads: int | None = None) -> np.ndarray:
    """Neighbours (N, k) of faiss's flat index alone, with all threads or so many."""
    import faiss

    if threads:
        faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    return index.search(features, k)[1]


# variant: the search, whether it does half of the products, environment
VARIANTS: dict[str, tuple[Callable[..., np.ndarray], bool, dict[str, str]]] = {
    "ours": (partial(by_ours, backend="numpy"), True, {}),
    "ours-plain": (partial(by_ours, backend="numpy"), True, WITHOUT_KERNELS),
    "ours-torch": (partial(by_ours, backend="torch"), False, {}),
    "ours-bfloat16": (partial(by_ours, backend="torch", precision="bfloat16"), False, {}),
    "ours-faiss": (partial(by_ours, backend="faiss"), False, {}),
    "faiss": (by_faiss, False, {}),
    "faiss-1-thread": (partial(by_faiss, threads=1), False, {}),
    "ivf": (partial(by_ours, approximate="ivf", force_approximate=True), False, {}),
    "hnsw": (partial(by_ours, approximate="hnsw", force_approximate=True), False, {}),
}


def product_rate(features: np.ndarray, runs: int = 3) -> float:
    """GF/s of a float32 product by NumPy's BLAS, as the median of some."""
    rows, columns = features[:PRODUCT_ROWS], features[-PRODUCT_ROWS:]
    out = np.empty((len(rows), len(columns)), dtype=np.float32)
    seconds = []
    for _ in range(runs + 1):  # the first touches the memory
        start = time.perf_counter()
        np.matmul(rows, columns.T, out=out)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * out.size * features.shape[1] / float(np.median(seconds[1:]))


def recall(features: np.ndarray, found: np.ndarray) -> float:
    """Share of neighbours in a sample that are as near as the true k nearest."""
    sample = np.random.default_rng(0).choice(len(features), min(SAMPLE, len(features)), False)
    shares = []
    for row in sample:
        squared = np.zeros(len(features))
        for start in range(0, len(features), PRODUCT_ROWS):
            block = slice(start, start + PRODUCT_ROWS)
            difference = features[block] - features[row]
            squared[block] = np.einsum("nd,nd->n", difference, difference, dtype=np.float64)
        limit = np.partition(squared, found.shape[1] - 1)[found.shape[1] - 1]
        near = squared[found[row][found[row] >= 0]] <= limit * (1 + 1e-6)
        shares.append(near.sum() / found.shape[1])
    return float(np.mean(shares))


def measure(variant: str, images: int, dim: int, k: int) -> None:
    """One measurement in this process; prints one JSON line."""
    features = person_features(images, dim, CAMERAS)[0]
    search, half, _ = VARIANTS[variant]
    search(features[:2100].copy(), k)  # imports and compiling do not count
    before = product_rate(features)
    found, figures = watched(lambda: search(features, k))
    peak = (before + product_rate(features)) / 2
    rate = 1e-9 * images * (images + 1 if half else 2 * images) * dim / figures["seconds"]
    figures |= {"gflops": rate, "product_gflops": peak, "share": rate / peak}
    print(json.dumps(figures | {"recall": recall(features, found)}))


def compare(args: argparse.Namespace) -> None:
    """A B A B, and a table: medians, and ratios within the rounds."""
    runs: dict[str, list[dict]] = {variant: [] for variant in args.variants}
    for _ in range(args.rounds):
        for variant, of in runs.items():
            arguments = ["--measure", variant, "--images", args.images, "--dim", args.dim]
            arguments += ["--k", args.k]
            of.append(in_fresh_process(__file__, arguments, VARIANTS[variant][2]))
            print(variant, of[-1], flush=True)
    first = runs[args.variants[0]]
    rows = []
    for variant, of in runs.items():
        slower = ratios(of, first, "seconds")
        rows.append(
            [
                variant,
                *(f"{median_of(of, name):.2f}" for name in ("seconds", "cpu_seconds")),
                f"{min(slower):.1f} to {max(slower):.1f}",
                *(f"{median_of(of, name):.0f}" for name in ("gflops", "product_gflops")),
                f"{median_of(of, 'share'):.2f}",
                f"{median_of(of, 'extra_mb'):.0f}",
                f"{median_of(of, 'recall'):.4f}",
            ]
        )
    heads = ["variant", "s", "CPU s", f"time / {args.variants[0]}", "GF/s", "product GF/s"]
    print(tabulate(rows, [*heads, "share", "MB above features", "recall"], tablefmt="github"))
    if args.json:
        write_json(args.json, {"images": args.images, "dim": args.dim, "k": args.k, "runs": runs})


def main() -> None:
    """Compare, or measure one variant in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12_936)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--k", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=["ours", "faiss"],
        help="faiss with one thread, too, if other programs run: its threads wait for each other",
    )
    parser.add_argument("--json", default="", help="file for all figures")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.images, args.dim, args.k)
    else:
        compare(args)


if __name__ == "__main__":
    main()
