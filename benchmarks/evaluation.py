"""CMC, mAP and mINP against fast-reid's own evaluation, side by side in one run (A B A B).

fast-reid's needs the whole distance matrix and sorts every row, in Python ("python") or in Cython
("cython"). The latter is built from a copy of its folder in a temporary directory, which takes a
compiler and Cython; it is left out where that fails. Ours runs with the compiled kernels and
without ("numpy"). Each measurement is a fresh process; distances are included, and taken by torch
for fast-reid, on the number of threads that suits it best. Memory is the peak above imports and
features. Features are synthetic, see `data.py`; the sizes are those of Market-1501 and MSMT17.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tabulate import tabulate

from benchmarks.data import person_features
from benchmarks.harness import (
    WITHOUT_KERNELS,
    in_fresh_process,
    median_of,
    ratios,
    watched,
    write_json,
)
from fastreid_uda.compiled import num_cores

OURS = ("compiled", "numpy")
VARIANTS = (*OURS, "python", "cython")
ENVIRONMENT = {"numpy": WITHOUT_KERNELS}


@dataclass(frozen=True)
class Case:
    """A size, and who is measured on it.

    Attributes:
        queries: images.
        gallery: images.
        dim: of the features.
        cameras: of the data set.
        variants: of `OURS`, "python" and "cython".
        once: one round is enough, since it takes long.
        rerank: with k-reciprocal re-ranking (k1 20, k2 6, lambda 0.3).
    """

    queries: int
    gallery: int
    dim: int
    cameras: int
    variants: tuple[str, ...]
    once: bool = False
    rerank: bool = False


CASES = {
    "quick": Case(400, 4000, 512, 6, VARIANTS, once=True),
    "market": Case(3368, 15913, 2048, 6, VARIANTS),
    "msmt": Case(11659, 82161, 512, 15, ("compiled", "cython"), once=True),
    "msmt-2048": Case(11659, 82161, 2048, 15, ("compiled",), once=True),
    "rerank-quick": Case(300, 2000, 512, 6, (*OURS, "python"), once=True, rerank=True),
    "rerank": Case(3368, 15913, 2048, 6, ("compiled", "python"), once=True, rerank=True),
    "rerank-msmt": Case(11659, 82161, 2048, 15, ("compiled",), once=True, rerank=True),
}
QUICK = ("quick", "rerank-quick")


def rank_ours(sides: list[np.ndarray], rerank: bool) -> dict[str, Any]:
    """Scores and the seconds of the distances, by this package."""
    from fastreid_uda.evaluation.distances import feature_distances
    from fastreid_uda.evaluation.ranking import evaluate_ranking
    from fastreid_uda.evaluation.reranking import reranked_distances

    start = time.perf_counter()
    source = reranked_distances if rerank else feature_distances
    blocks = source(*sides[:2], metric="cosine")
    seconds = time.perf_counter() - start

    def timed(first: int, last: int) -> np.ndarray:
        nonlocal seconds
        start = time.perf_counter()
        block = blocks(first, last)
        seconds += time.perf_counter() - start
        return block

    scores = evaluate_ranking(None, None, *sides[2:], distances=timed)
    return {
        "distances": seconds,
        "cmc": scores.cmc.tolist(),
        "mAP": scores.mean_average_precision,
        "mINP": scores.mean_inverse_negative_penalty,
    }


def rank_fastreid(
    sides: list[np.ndarray], rerank: bool, threads: int, cython: str
) -> dict[str, Any]:
    """Scores and the seconds of the distances, by fast-reid.

    Args:
        sides: see `evaluate_ranking`.
        rerank: as fast-reid's evaluator does, but with its neighbour search for CPUs.
        threads: of torch.
        cython: folder of the compiled evaluation; empty for that in Python.
    """
    import torch

    import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
    from fastreid.evaluation import rank  # isort: skip
    from fastreid.utils import compute_dist  # isort: skip

    torch.set_num_threads(threads)
    if cython:
        sys.path.insert(0, cython)
        rank.evaluate_cy = __import__("rank_cy").evaluate_cy
        rank.IS_CYTHON_AVAI = True
    start = time.perf_counter()
    query, gallery = map(torch.from_numpy, sides[:2])
    distances = compute_dist.build_dist(query, gallery, "cosine")
    if rerank:
        features = torch.cat([query, gallery])
        features = torch.nn.functional.normalize(features)
        jaccard = compute_dist.compute_jaccard_distance(features, 20, 6, search_option=3)
        jaccard = jaccard[: len(query), len(query) :]
        distances = jaccard * (1 - 0.3) + distances * 0.3
        del jaccard, features
    seconds = time.perf_counter() - start
    cmc, precisions, penalties = rank.evaluate_rank(distances, *sides[2:], use_cython=bool(cython))
    return {
        "distances": seconds,
        "cmc": np.asarray(cmc, dtype=np.float64).tolist(),
        "mAP": float(np.mean(np.asarray(precisions, dtype=np.float64))),
        "mINP": float(np.mean(np.asarray(penalties, dtype=np.float64))),
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One measurement in this process."""
    case = Case(**json.loads(args.case))
    arrays = person_features(case.queries + case.gallery, case.dim, case.cameras)

    def run(queries: int, gallery: int) -> dict[str, Any]:
        last = case.queries + gallery
        sides = [part for array in arrays for part in (array[:queries], array[case.queries : last])]
        if args.measure in OURS:
            return rank_ours(sides, case.rerank)
        return rank_fastreid(sides, case.rerank, args.threads, args.cython)

    run(200, 1000)  # imports and first calls do not count
    result, figures = watched(lambda: run(case.queries, case.gallery))
    result["ranking"] = figures["seconds"] - result["distances"]
    return {**figures, **result}


def measured(case: Case, variant: str, threads: int, cython: str) -> dict[str, Any]:
    """One measurement in a fresh process."""
    description = json.dumps(dataclasses.asdict(case))
    arguments = ["--measure", variant, "--case", description, "--threads", threads]
    if variant == "cython":
        arguments += ["--cython", cython]
    return in_fresh_process(__file__, arguments, ENVIRONMENT.get(variant))


def build_cython(folder: str) -> str:
    """The folder of fast-reid's compiled evaluation, built in `folder`; empty if that fails."""
    installed = find_spec("fastreid")
    if installed is None or not installed.submodule_search_locations:
        return ""
    source = Path(installed.submodule_search_locations[0]) / "evaluation" / "rank_cylib"
    target = Path(folder) / "rank_cylib"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]  # what its Makefile does
    done = subprocess.run(command, cwd=target, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"fast-reid's Cython evaluation cannot be built and is left out: {reason}\n")
        return ""
    return str(target)


def better_threads() -> int:
    """The number of torch threads with which fast-reid's distances are taken faster."""
    cores = num_cores()
    case = Case(200, 8000, 2048, 6, ("python",))
    seconds = {n: measured(case, "python", n, "")["distances"] for n in sorted({1, cores})}
    return min(seconds, key=lambda n: seconds[n])


def compare(name: str, case: Case, rounds: int, threads: int, cython: str) -> dict[str, Any]:
    """A B A B, and a table of medians."""
    variants = [v for v in case.variants if v != "cython" or cython]
    runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
    for _ in range(1 if case.once else rounds):
        for variant in variants:
            runs[variant].append(measured(case, variant, threads, cython))
    ours = runs[variants[0]]
    rows = []
    for variant, results in runs.items():
        difference = {
            key: np.abs(np.subtract(results[0][key], ours[0][key])).max()
            for key in ("cmc", "mAP", "mINP")
        }
        columns = ("seconds", "distances", "ranking", "cpu_seconds", "extra_mb")
        rows.append(
            [variant, *(median_of(results, column) for column in columns),
             results[0]["mAP"], *(f"{value:.0e}" for value in difference.values())]
        )  # fmt: skip
    print(
        f"{name}: {case.queries} x {case.gallery} x {case.dim}"
        f"{', re-ranked' if case.rerank else ''}; {len(ours)} round(s), "
        f"fast-reid on {threads} torch thread(s)"
    )
    heads = ["", "seconds", "distances", "ranking", "CPU s", "extra MB", "mAP",
             "CMC off", "mAP off", "mINP off"]  # fmt: skip
    formats = ("", ".2f", ".2f", ".2f", ".2f", ".0f", ".6f")
    print(tabulate(rows, heads, floatfmt=formats))
    for variant in variants[1:]:
        pairs = ", ".join(f"{r:.2f}" for r in ratios(runs[variant], ours, "seconds"))
        rankings = ", ".join(f"{r:.1f}" for r in ratios(runs[variant], ours, "ranking"))
        print(f"{variant} / {variants[0]}, pairs: {pairs} in all; {rankings} without the distances")
    print(flush=True)
    for results in runs.values():
        for result in results:
            result["cmc"] = [result["cmc"][rank - 1] for rank in (1, 5, 10)]
    return {"case": dataclasses.asdict(case), "threads": threads, "runs": runs}


def main() -> None:
    """Measure, print tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = [name for name in CASES if name not in QUICK]
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=default)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--rounds", type=int, default=3, help="of the cases that are not long")
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--threads", type=int, default=0, help="of torch for fast-reid; 0: tried")
    parser.add_argument("--cython", default="", help="folder where rank_cy is built already")
    for hidden in ("--measure", "--case"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    cases = {name: CASES[name] for name in (QUICK if args.quick else args.cases)}
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            name: dataclasses.replace(
                case, variants=tuple(v for v in case.variants if v in args.variants)
            )
            for name, case in cases.items()
        }
        wanted = any("cython" in case.variants for case in cases.values())
        cython = args.cython or (build_cython(folder) if wanted else "")
        theirs = set(args.variants) - set(OURS)
        threads = args.threads or (better_threads() if theirs else 1)
        results = {
            name: compare(name, case, args.rounds, threads, cython) for name, case in cases.items()
        }
    if args.json:
        write_json(args.json, {"cases": results})


if __name__ == "__main__":
    main()
