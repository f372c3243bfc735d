"""CMC, mAP and mINP against fast-reid's Python evaluation, side by side in one run (A B A B).

fast-reid's needs the whole distance matrix and sorts every row; it is given as many queries as
--queries says, and times are reported per query. Features are random, with matches at all ranks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from tabulate import tabulate

import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
from fastreid_uda.evaluation.ranking import evaluate_ranking


def main() -> None:
    """Measure and print a table."""
    from fastreid.evaluation.rank import evaluate_rank
    from fastreid.utils.compute_dist import build_dist

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    query = rng.normal(size=(args.queries, args.dim)).astype(np.float32)
    gallery = rng.normal(size=(args.gallery, args.dim)).astype(np.float32)
    people = [rng.integers(750, size=n) for n in (args.queries, args.gallery)]
    cameras = [rng.integers(6, size=n) for n in (args.queries, args.gallery)]

    def ours() -> float:
        scores = evaluate_ranking(query, gallery, *people, *cameras)
        return scores.mean_average_precision

    def fastreid() -> float:
        distances = build_dist(torch.from_numpy(query), torch.from_numpy(gallery), "cosine")
        _, precisions, _ = evaluate_rank(distances, *people, *cameras, use_cython=False)
        return float(np.mean(precisions))

    seconds: dict[str, list[float]] = {"ours": [], "fast-reid": []}
    scores = {}
    for _ in range(args.rounds):
        for name, run in (("ours", ours), ("fast-reid", fastreid)):
            start = time.perf_counter()
            scores[name] = run()
            seconds[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    rows = [
        [name, statistics.median(values), 1000 * statistics.median(values) / args.queries,
         scores[name]] for name, values in seconds.items()
    ]  # fmt: skip
    print(f"{args.queries} queries x {args.gallery} x {args.dim}, distances included")
    print(
        tabulate(
            rows, ["", "seconds", "ms per query", "mAP"], floatfmt=(".1f", ".2f", ".2f", ".9f")
        )
    )
    print(f"ratio of the pairs: {', '.join(f'{r:.1f}' for r in ratios)}")


if __name__ == "__main__":
    main()
