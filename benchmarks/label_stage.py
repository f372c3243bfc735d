"""The pseudo-label stage against fast-reid's own code, side by side in one run (A B A B).

Ours: exact nearest neighbours, sparse k-reciprocal Jaccard distances and DBSCAN on their graph,
with the compiled kernels and without. fast-reid's: compute_jaccard_distance(search_option=3), its
way on a CPU, and scikit-learn's DBSCAN on the dense matrix, with torch on the number of threads
that suits it best (tried first on 2,000 images) and faiss on all cores. With a GPU the neighbour
searches of both on it are measured too (fast-reid's needs faiss-gpu). The variants ivf and hnsw,
which have to be asked for, search neighbours approximately; their agreement is the adjusted Rand
index of their labels and the exact ones, outliers being one label. Each measurement is a fresh
process; memory is the peak above imports and features. Features are synthetic, see `data.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tabulate import tabulate

from benchmarks.data import person_features
from benchmarks.harness import (
    WITHOUT_KERNELS,
    in_fresh_process,
    median_of,
    memory_ratio,
    ratios,
    watched,
    write_json,
)
from fastreid_uda.compiled import num_cores

EPS, MIN_SAMPLES = 0.6, 4
STAGES = ("k-NN", "after k-NN", "total")
APPROXIMATE = ("ivf", "hnsw")
VARIANTS = ("compiled", "numpy", "gpu", "fastreid", "fastreid-gpu", *APPROXIMATE)
ENVIRONMENT = {"numpy": WITHOUT_KERNELS}


class Stopwatch:
    """Sums the time spent in calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        start = time.perf_counter()
        result = self.function(*args, **kwargs)
        self.seconds += time.perf_counter() - start
        return result


def label_ours(features: np.ndarray, k1: int, k2: int, variant: str) -> tuple[np.ndarray, float]:
    """Labels (N,) by our stage, and the seconds of its neighbour search."""
    from fastreid_uda.labeling import jaccard, pairwise
    from fastreid_uda.labeling.clustering import DBSCAN
    from fastreid_uda.labeling.distances import Jaccard

    with mock.patch.object(jaccard, "nearest_neighbors", Stopwatch(jaccard.nearest_neighbors)) as w:
        limit = EPS + pairwise.ROUNDING  # as the pipeline does where eps is set
        options: dict[str, Any] = {"backend": "torch" if variant == "gpu" else "numpy"}
        if variant in APPROXIMATE:
            options = {"approximate": variant, "force_approximate": True}
        distances = Jaccard(k1, k2, **options).measure(features, limit=limit)
    return DBSCAN(MIN_SAMPLES).cluster(features, distances, EPS, 0), w.seconds


def label_fastreid(
    features: np.ndarray, k1: int, k2: int, threads: int, option: int
) -> tuple[np.ndarray, float]:
    """Labels (N,) by fast-reid and scikit-learn, and the seconds of the neighbour search.

    Args:
        features: (N, D) float32.
        k1: see `Jaccard`.
        k2: likewise.
        threads: of torch.
        option: fast-reid's `search_option`: 3 for the CPU, 2 for the GPU.
    """
    import faiss
    import torch
    from sklearn.cluster import DBSCAN

    import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
    from fastreid.utils import compute_dist  # isort: skip

    name = {2: "index_init_gpu", 3: "index_init_cpu"}[option]
    make_index = getattr(compute_dist, name)
    search = []

    def timed_index(*args: Any) -> Any:
        index = make_index(*args)
        index.search = Stopwatch(with_all_cores(index.search))
        search.append(index.search)
        return index

    def with_all_cores(search: Callable[..., Any]) -> Callable[..., Any]:
        def searched(*args: Any) -> Any:
            faiss.omp_set_num_threads(num_cores())
            result = search(*args)
            torch.set_num_threads(threads)
            return result

        return searched

    torch.set_num_threads(threads)
    with mock.patch.object(compute_dist, name, timed_index):
        tensor = torch.from_numpy(features)
        distances = compute_dist.compute_jaccard_distance(tensor, k1, k2, search_option=option)
    clusterer = DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1)
    return clusterer.fit_predict(distances), search[0].seconds


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One measurement in this process."""
    images, dim = args.images[0], args.dim
    features, identities, _ = person_features(images, dim, args.cameras)

    def run(x: np.ndarray) -> tuple[np.ndarray, float]:
        if args.measure.startswith("fastreid"):
            option = 2 if args.measure.endswith("gpu") else 3
            return label_fastreid(x, args.k1, args.k2, args.threads, option)
        return label_ours(x, args.k1, args.k2, args.measure)

    run(features[:200])  # imports and first calls do not count
    (labels, search), figures = watched(lambda: run(features))
    labels = np.asarray(labels, dtype=np.int64)
    if args.save:
        np.save(args.save, labels)
    from sklearn.metrics import adjusted_rand_score

    kept = labels >= 0
    return {
        "k-NN": search,
        "after k-NN": figures["seconds"] - search,
        "total": figures["seconds"],
        "cpu": figures["cpu_seconds"],
        "extra_mb": figures["extra_mb"],
        "peak_mb": figures["peak_mb"],
        "labels": hashlib.sha256(labels.tobytes()).hexdigest()[:12],
        "clusters": int(labels.max()) + 1,
        "kept": float(kept.mean()),
        "ari": float(adjusted_rand_score(identities[kept], labels[kept])) if kept.any() else 0.0,
    }


def better_threads(args: argparse.Namespace) -> int:
    """The number of torch threads that suit fast-reid's code, tried on at most 2,000 images."""
    images = min(2000, max(args.images))
    cores = num_cores()
    seconds = {
        threads: in_fresh_process(__file__, arguments(args, "fastreid", images, threads))["total"]
        for threads in sorted({1, cores})
    }
    return min(seconds, key=lambda threads: seconds[threads])


def arguments(
    args: argparse.Namespace, variant: str, images: int, threads: int, save: str = ""
) -> list[object]:
    """The command line of one measurement."""
    return ["--measure", variant, "--images", images, "--dim", args.dim, "--threads", threads,
            "--k1", args.k1, "--k2", args.k2, "--cameras", args.cameras,
            "--save", save]  # fmt: skip


def compare(args: argparse.Namespace, images: int, threads: int) -> dict[str, Any]:
    """A B A B, a table of medians and the ratios."""
    dense = images <= args.dense_up_to
    variants = [name for name in args.variants if dense or not name.startswith("fastreid")]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    with TemporaryDirectory() as folder:
        files = {name: f"{folder}/{name}.npy" for name in variants}
        for _ in range(args.rounds):
            for name in variants:
                command = arguments(args, name, images, threads, files[name])
                runs[name].append(in_fresh_process(__file__, command, ENVIRONMENT.get(name)))
        labels = {name: np.load(file) for name, file in files.items()}
    rows = [
        [name, *(median_of(found, key) for key in (*STAGES, "cpu", "extra_mb")),
         found[0]["peak_mb"], found[0]["clusters"], 100 * found[0]["kept"], found[0]["ari"]]
        for name, found in runs.items()
    ]  # fmt: skip
    headers = ["", *(f"{stage} s" for stage in STAGES), "CPU s", "extra MB", "MB in all",
               "clusters", "kept %", "ARI"]  # fmt: skip
    print(f"{images} x {args.dim}, k1 {args.k1}, k2 {args.k2}, eps {EPS}, medians of {args.rounds}")
    print(
        tabulate(
            rows, headers, floatfmt=("", ".2f", ".2f", ".2f", ".1f", ".0f", ".0f", "", ".0f", ".3f")
        )
    )
    for theirs in (name for name in variants if name.startswith("fastreid")):
        for name in (name for name in variants if not name.startswith("fastreid")):
            for stage in STAGES:
                found = ", ".join(f"{r:.1f}" for r in ratios(runs[theirs], runs[name], stage))
                print(f"{theirs} / {name}, {stage}: {found}")
            print(f"{theirs} / {name}, extra memory: {memory_ratio(runs[theirs], runs[name])}")
    exact = [name for name in variants if name not in APPROXIMATE]
    same = len({run["labels"] for name in exact for run in runs[name]}) == 1
    if len(exact) > 1:
        print(f"labels of all exact runs are equal: {'yes' if same else 'NO'}")
    agreement = {name: _agreement(labels[name], labels[exact[0]])
                 for name in variants if name in APPROXIMATE and exact}  # fmt: skip
    for name, index in agreement.items():
        print(f"{name} and exact labels, adjusted Rand index: {index:.4f}")
    print(flush=True)
    return {"images": images, "dim": args.dim, "same_labels": same, "agreement": agreement,
            "runs": runs}  # fmt: skip


def _agreement(labels: np.ndarray, others: np.ndarray) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(others, labels))


def draw(sizes: list[dict[str, Any]], path: str) -> None:
    """Time and memory against the number of images, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    looks = {
        "compiled": ("ours", "#0072B2"),
        "numpy": ("ours, NumPy only", "#56B4E9"),
        "gpu": ("ours, GPU", "#009E73"),
        "fastreid": ("fast-reid + scikit-learn", "#D55E00"),
        "fastreid-gpu": ("fast-reid, GPU", "#E69F00"),
    }
    keys = (("total", "seconds, whole stage"), ("after k-NN", "seconds, after k-NN"),
            ("extra_mb", "MB above imports and features"))  # fmt: skip
    for axes, (key, label) in zip(panels, keys, strict=True):
        for variant, (name, color) in looks.items():
            points = [(size["images"], median_of(size["runs"][variant], key))
                      for size in sizes if size["runs"].get(variant)]  # fmt: skip
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=color, markersize=4, label=name)
        axes.set(xscale="log", yscale="log", xlabel="images", title=label)
        axes.title.set_size(9)
        axes.grid(alpha=0.3, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=130)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--images", type=int, nargs="+", default=[4000, 12936, 32621])
    add("--dim", type=int, default=2048)
    add("--cameras", type=int, default=6)
    add("--k1", type=int, default=30)
    add("--k2", type=int, default=6)
    add("--rounds", type=int, default=3)
    add("--variants", nargs="+", choices=VARIANTS, help="default: all that can run here")
    add("--dense-up-to", type=int, default=35000, metavar="N",
        help="largest N for fast-reid's two N x N arrays (default: 35000, 10 GB)")  # fmt: skip
    add("--quick", action="store_true", help="2,000, 4,000 and 6,000 images once: two minutes")
    add("--json", metavar="FILE", help="write all figures")
    add("--plot", metavar="FILE", help="draw time and memory against the number of images")
    add("--threads", type=int, default=1, help=argparse.SUPPRESS)
    add("--save", default="", help=argparse.SUPPRESS)
    add("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.images, args.rounds = [2000, 4000, 6000], 1
    return args


def runnable() -> list[str]:
    """The variants for which this machine has what they need."""
    import faiss
    import torch

    names = ["compiled", "numpy"]
    names += ["gpu"] if torch.cuda.is_available() else []
    names += ["fastreid"]
    return names + (["fastreid-gpu"] if faiss.get_num_gpus() else [])


def main() -> None:
    """Measure all sizes, or one of them where a fresh process was asked to."""
    args = parse_arguments()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    args.variants = args.variants or runnable()
    threads = better_threads(args) if "fastreid" in args.variants else 1
    print(f"fast-reid with {threads} torch thread(s)\n")
    sizes = [compare(args, images, threads) for images in args.images]
    if args.json:
        write_json(args.json, {"fastreid_threads": threads, "sizes": sizes})
    if args.plot:
        draw(sizes, args.plot)


if __name__ == "__main__":
    main()
