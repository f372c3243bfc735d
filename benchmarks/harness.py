"""What the benchmarks share: fresh processes in turn, peak memory, medians, the machine's name."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from fastreid_uda.compiled import SWITCH, num_cores
from fastreid_uda.memory import peak_rss_mb

WITHOUT_KERNELS = {SWITCH: "0"}
"""The environment of a process in which NumPy does what kernels would."""

T = TypeVar("T")


def watched(run: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """The result of a call, its `seconds` and `cpu_seconds`, and the peak of memory in MiB.

    `peak_mb` is all of it, with the interpreter, imports and features, `extra_mb` what the call
    took beside them.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_rss_mb() or 0
    cpu, start = time.process_time(), time.perf_counter()
    result = run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_rss_mb() or 0
    memory = {"peak_mb": peak, "extra_mb": peak - before}
    return result, {"seconds": seconds, "cpu_seconds": cpu, **memory}


def in_fresh_process(
    script: str, arguments: Sequence[object], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object that a script prints as its last line, from a process of its own."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | dict(environment or {})
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def median_of(runs: Sequence[Mapping[str, float]], name: str) -> float:
    """The median of one figure over runs."""
    return statistics.median(run[name] for run in runs)


def ratios(slow: Sequence[Mapping[str, float]], fast: Sequence[Mapping[str, float]], name: str
           ) -> list[float]:  # fmt: skip
    """One figure of a run over that of the run beside it, for each pair."""
    return [a[name] / b[name] for a, b in zip(slow, fast, strict=True)]


def memory_ratio(large: Sequence[Mapping[str, float]], small: Sequence[Mapping[str, float]]) -> str:
    """The extra memory of one variant over that of another, in words.

    Memory is counted in whole MiB: a run of few images may take none, which nothing is divided by.
    """
    over, under = median_of(large, "extra_mb"), median_of(small, "extra_mb")
    return f"{over / under:.1f}" if under else f"{over:.0f} MB / less than 1 MB"


def machine() -> dict[str, Any]:
    """What figures depend on: processor, cores, memory, load, GPU, versions."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": num_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    for package in ("numpy", "scipy", "scikit-learn", "numba", "faiss-cpu", "torch"):
        with suppress(PackageNotFoundError):
            facts[package] = version(package)
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        facts["gpu"] = sys.modules["torch"].cuda.get_device_name()
    return facts


def write_json(path: str, content: Mapping[str, Any]) -> None:
    """Write figures together with the machine and the command that measured them."""
    everything = {"command": " ".join(sys.argv), "machine": machine(), **content}
    Path(path).write_text(json.dumps(everything, indent=1) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
