"""Compiled kernels, where Numba is installed, and threads over rows.

A kernel is a function over arrays that Numba compiles to machine code, once per environment and
processor: the code is kept on disk, and later processes load it. Kernels release the interpreter's
lock, so that plain threads run them side by side. Whoever calls one has a NumPy path with the same
results for the case that `available()` is False.

Modules with kernels import Numba when they are imported. They are imported where they are called,
after `available()` was asked, so that nothing else pays for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np

SWITCH = "FASTREID_UDA_COMPILED"
"""Environment variable; 0 switches the kernels off."""

_logger = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def available() -> bool:
    """Whether kernels can be called: Numba works and is not switched off."""
    return os.environ.get(SWITCH, "1") != "0" and _numba_works()


@cache
def _numba_works() -> bool:
    try:
        from numba.core import event
    # Not installed, not made for this NumPy or Python, or its library does not load (OSError).
    except Exception as error:
        _logger.info("Without compiled kernels (%s); the NumPy code is slower.", error)
        return False

    class Announcement(event.Listener):  # type: ignore[misc]
        """Says once that kernels are being compiled; loading them is not an event."""

        said = False

        def on_start(self, event: Any) -> None:
            if not self.said:
                self.said = True
                _logger.info("Compiling kernels: some seconds, the first time only.")

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Announcement())
    return True


def kernel(function: F) -> F:
    """Compile a function when it is first called (a decorator)."""
    return _compile(function, frozenset())


def kernel_with_free_sums(function: F) -> F:
    """As `kernel`, with sums in any order, which is what lets them use vector registers.

    The order is fixed when the kernel is compiled: on one processor the same numbers give the same
    bits, whatever the threads. Other processors may differ in the last bits.
    """
    return _compile(function, frozenset({"reassoc", "contract", "nsz"}))  # NaN keeps its meaning


def _compile(function: F, fastmath: frozenset[str]) -> F:
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    try:
        compiled: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written
        _warn_without_cache()
        compiled = numba.njit(**options)(function)
    return compiled  # type: ignore[no-any-return]


@cache
def _warn_without_cache() -> None:
    _logger.warning(
        "Compiled kernels cannot be kept, because no folder for them can be written: every start "
        "compiles them again, for some seconds. Set NUMBA_CACHE_DIR to a folder."
    )


def read_only(array: np.ndarray, dtype: type | None = None) -> np.ndarray:
    """The array, contiguous and not writable: kernels tell writable arrays from others by type.

    Args:
        array: of any shape; it stays writable itself.
        dtype: to convert it to; None: as it is.
    """
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_threads() -> int:
    """Threads for kernels: OMP_NUM_THREADS if it is set, else one per core of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else num_cores()


def over_rows(task: Callable[[int, int], T], num_rows: int, block_rows: int) -> list[T]:
    """`task(start, stop)` for consecutive blocks of rows, in threads; the results in order.

    Args:
        task: releases the lock for most of its time, as kernels and NumPy do.
        num_rows: 0 or more.
        block_rows: rows of a block; several blocks per thread keep all threads busy to the end.
    """
    starts = range(0, num_rows, block_rows)
    stops = (min(start + block_rows, num_rows) for start in starts)
    if num_threads() == 1 or len(starts) <= 1:
        return [task(start, stop) for start, stop in zip(starts, stops, strict=True)]
    with ThreadPoolExecutor(num_threads()) as threads:
        return list(threads.map(task, starts, stops))
