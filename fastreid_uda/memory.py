"""How much memory this process has used, may still use, and is about to need."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from .errors import UserError


@runtime_checkable
class KnowsMemory(Protocol):
    """A stage that can tell beforehand how much memory it takes.

    Attributes:
        memory_advice: what the user can do to need less, the end of a sentence.
    """

    memory_advice: ClassVar[str]

    def memory_needed(self, num_images: int, dimension: int) -> int:
        """Bytes above the features, of one view: an upper estimate, at most twice the peak."""


_logger = logging.getLogger(__name__)
_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_WORTH_A_LINE = 1 << 30  # what takes less, and little of what is free, is for the log file alone


def peak_rss_mb() -> int | None:
    """Peak resident memory in MiB; None where the system does not tell.

    getrusage is not asked: after a fork it reports the memory of a larger parent process.
    """
    status = _PROC / "self/status"
    words = status.read_text().split() if status.exists() else []
    return int(words[words.index("VmHWM:") + 1]) // 1024 if words else None


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell.

    What the kernel counts as available, or what is left to the control group (a container, a batch
    job) if that is less; its file cache counts as free.
    """
    info = _PROC / "meminfo"
    if not info.exists():
        return None
    words = info.read_text().split()
    free = 1024 * int(words[words.index("MemAvailable:") + 1])
    left = _left_in_group()
    return free if left is None else min(free, left)


def _left_in_group() -> int | None:
    """What is left to the control groups of this process, version 2 or 1; None without a limit."""
    own = _PROC / "self/cgroup"
    left = []
    for line in own.read_text().splitlines() if own.exists() else []:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, names = _CGROUP, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _CGROUP / "memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        group = root / path.strip("/")  # in a container it may not exist, but the root does
        left += [_left_in(folder, *names) for folder in (group, *group.parents)
                 if folder.is_relative_to(root)]  # fmt: skip
    return min((size for size in left if size is not None), default=None)


def _left_in(group: Path, limit: str, used: str, cache: str) -> int | None:
    if not ((group / limit).exists() and (group / used).exists()):
        return None
    most = (group / limit).read_text().strip()
    if not most.isdecimal():  # "max": no limit
        return None
    statistics = group / "memory.stat"
    words = statistics.read_text().split() if statistics.exists() else []
    reclaimable = int(words[words.index(cache) + 1]) if cache in words else 0
    return max(0, int(most) - int((group / used).read_text()) + reclaimable)


def require_memory(task: str, needed: int, advice: str) -> None:
    """Announce what a task is about to take, and refuse it if that is more than is free.

    Args:
        task: what it does, the beginning of a sentence: "Measuring the distances of 9 images".
        needed: bytes, an estimate.
        advice: what needs less, the end of a sentence: "lower X or set Y".

    Raises:
        UserError: if more is needed than is free.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{task} needs about {_in_words(needed)} of memory, but only {_in_words(free)} of it "
            f"is free; {advice}."
        )
    left = "" if free is None else f"; {_in_words(free)} of it is free"
    much = needed >= min(_WORTH_A_LINE, (free or needed) / 4)
    level = logging.INFO if much else logging.DEBUG
    _logger.log(level, "%s needs about %s of memory%s.", task, _in_words(needed), left)


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
