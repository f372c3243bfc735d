"""The smallest of more numbers than fit into memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

MOST_HELD = 1 << 23
"""So many smallest numbers are held at a time, in 64 MB; for more they are counted twice."""

_LEAST_ROOM = 1 << 16


class Smallest:
    """The smallest of many numbers >= 0, in room for twice as many.

    Args:
        count: how many, at least 1.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held = np.empty(max(2 * count, _LEAST_ROOM), dtype=np.float32)
        self._used = 0
        self.bound = np.float32(np.inf)  # larger numbers, and equal ones, are of no interest

    def add(self, numbers: np.ndarray) -> None:
        """Take more numbers, float32, into account."""
        numbers = numbers[numbers < self.bound]
        while len(numbers):
            taken = numbers[: len(self._held) - self._used]
            self._held[self._used : self._used + len(taken)] = taken
            self._used += len(taken)
            numbers = numbers[len(taken) :]
            if self._used == len(self._held):
                self._held.partition(self._count - 1)
                self._used = self._count
                self.bound = self._held[self._count - 1]
                numbers = numbers[numbers < self.bound]

    def ascending(self) -> np.ndarray:
        """The `count` smallest, or all if they are fewer, float32."""
        held = self._held[: self._used]
        held.sort()
        return held[: self._count]


class Histogram:
    """How many numbers have each pattern of their upper 16 bits, and their sums."""

    def __init__(self) -> None:
        self.counts = np.zeros(1 << 16, dtype=np.int64)
        self.sums = np.zeros(1 << 16)

    def add(self, numbers: np.ndarray) -> None:
        """Count more numbers, float32 >= 0."""
        places = _bits(numbers) >> 16
        self.counts += np.bincount(places, minlength=1 << 16)
        self.sums += np.bincount(places, numbers, minlength=1 << 16)

    def sum_of(self, count: int, parts: Iterable[np.ndarray]) -> float:
        """The sum of the `count` smallest numbers, in constant memory.

        The bits of a float32 >= 0, read as an integer, are in the order of the numbers. So the
        upper 16 bits say which numbers count, but for those of a single pattern: these are counted
        again, by their lower 16 bits, which leaves no two different numbers together.

        Args:
            count: 0 to all of them.
            parts: all numbers once more, in flat float32 arrays; read only if a pattern is cut.
        """
        up_to = np.cumsum(self.counts)
        cut = int(np.searchsorted(up_to, count))
        if up_to[cut] == count:
            return float(self.sums[: cut + 1].sum())
        counts = np.zeros(1 << 16, dtype=np.int64)
        for numbers in parts:
            bits = _bits(numbers)
            counts += np.bincount(bits[bits >> 16 == cut] & 0xFFFF, minlength=1 << 16)
        left = count - int(up_to[cut] - self.counts[cut])
        taken = np.clip(left - (np.cumsum(counts) - counts), 0, counts)
        used = np.flatnonzero(taken)
        values = ((cut << 16) + used).astype(np.uint32).view(np.float32).astype(np.float64)
        return float(self.sums[:cut].sum() + taken[used] @ values)


def _bits(numbers: np.ndarray) -> np.ndarray:
    """The bits of float32 >= 0 as uint32; -0 is 0."""
    return numbers.view(np.uint32) & np.uint32(0x7FFFFFFF)
