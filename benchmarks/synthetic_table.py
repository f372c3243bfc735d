"""The methods side by side on the synthetic domains: README's table (`make table`).

Runs configs/Synthetic/<method>.yml with each seed from random weights, source training included,
several runs at a time with one thread each, so that the figures do not depend on the number of
cores. A run that came to its end is not repeated and one that was stopped is resumed, whatever has
changed in code and configs since: remove the folder to begin anew. Prints the table in Markdown,
with means and sample standard deviations over the seeds, and how long it took.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("baseline", "msplr", "nplp", "secret", "p2lr", "inclr")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--methods", nargs="+", default=METHODS, help="names of configs in configs/Synthetic")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="values of UDA.SEED")
    add("--jobs", type=int, default=os.cpu_count(), help="runs at a time, of one thread each")
    add("--output", type=Path, default=ROOT / "logs/table", help="a folder for the runs")
    return parser.parse_args()


def run(method: str, seed: int, output: Path) -> dict[str, Any]:
    """The summary of a run, made now unless it is there; `minutes` is what it has taken."""
    folder = output / f"{method}_{seed}"
    done, clock = folder / "model_final.pth", folder / "seconds.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(clock.read_text()) if clock.exists() else 0.0
        start = time.perf_counter()
        command = [
            sys.executable, ROOT / "tools/train_net.py", "--resume",
            "--config-file", ROOT / f"configs/Synthetic/{method}.yml",
            "UDA.SEED", str(seed), "TEST.EVAL_PERIOD", "1000", "OUTPUT_DIR", str(folder),
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        try:
            with open(folder / "terminal.txt", "a", encoding="utf-8") as terminal:
                result = subprocess.run(command, env=environment, stdout=terminal, stderr=terminal)
        finally:
            clock.write_text(json.dumps(earlier + time.perf_counter() - start))
        if result.returncode:
            raise SystemExit(f"{method}, seed {seed}, failed: see {folder / 'terminal.txt'}.")
    summary = json.loads((folder / "summary.json").read_text())
    return summary | {"minutes": json.loads(clock.read_text()) / 60}


COLUMNS: dict[str, tuple[Callable[[dict[str, Any]], float], int]] = {
    "direct transfer, mAP": (lambda s: s["direct_transfer"]["mAP"], 1),
    "adapted, mAP": (lambda s: s["last"]["mAP"], 1),
    "Rank-1": (lambda s: s["last"]["Rank-1"], 1),
    "clusters": (lambda s: s["last"]["clusters"], 0),
    "kept, %": (lambda s: 100 * s["last"]["kept"] / (s["last"]["kept"] + s["last"]["outliers"]), 0),
    "label accuracy": (lambda s: s["last"]["quality"]["accuracy"], 2),
    "pair F1": (lambda s: s["last"]["quality"]["pair_f1"], 2),
    "minutes": (lambda s: s["minutes"], 1),
}
"""Title -> what it shows of a run, and its decimals."""


def row(summaries: Sequence[dict[str, Any]]) -> list[str]:
    """The name of a method and one cell per column."""
    cells = [summaries[0]["method"]]
    for value, digits in COLUMNS.values():
        values = [value(summary) for summary in summaries]
        cell = f"{statistics.fmean(values):.{digits}f}"
        if len(values) > 1:
            cell += f" ± {statistics.stdev(values):.{digits}f}"
        cells.append(cell)
    return cells


def main() -> None:
    args = parse_arguments()
    start = time.perf_counter()
    pairs = [(method, seed) for method in args.methods for seed in args.seeds]
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(run, *pair, args.output): pair for pair in pairs}
        try:
            for future in tqdm(as_completed(futures), total=len(pairs), desc="runs", unit="run"):
                runs[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # those that run come to their end
            raise
    rows = [row([runs[method, seed] for seed in args.seeds]) for method in args.methods]
    print(tabulate(rows, headers=["method", *COLUMNS], tablefmt="github", disable_numparse=True))
    print(
        f"\nSeeds {', '.join(map(str, args.seeds))}; {args.jobs} runs at a time, one thread each; "
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.\n"
        f"All runs together took {sum(r['minutes'] for r in runs.values()):.0f} minutes, this "
        f"command {(time.perf_counter() - start) / 60:.1f}."
    )


if __name__ == "__main__":
    main()
