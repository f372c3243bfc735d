"""How much memory this process has used."""

from __future__ import annotations

from pathlib import Path


def peak_rss_mb() -> int | None:
    """Peak resident memory in MiB; None where the system does not tell.

    getrusage is not asked: after a fork it reports the memory of a larger parent process.
    """
    status = Path("/proc/self/status")
    words = status.read_text().split() if status.exists() else []
    return int(words[words.index("VmHWM:") + 1]) // 1024 if words else None
