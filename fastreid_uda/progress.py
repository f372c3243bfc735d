"""Says from time to time how far a long task is, through the log."""

from __future__ import annotations

import logging
import time

_logger = logging.getLogger(__name__)
_TOOLS_SHOW = ("fastreid_uda.compiled", "fastreid_uda.memory", __name__)


class Progress:
    """One line of the log every so often; a task that is done before has none.

    Args:
        task: what is being done, the beginning of a line: "Nearest neighbours of 9 images".
        total: the whole work, in any unit, above 0.
        every: seconds between two lines.
    """

    def __init__(self, task: str, total: float, every: float = 20.0) -> None:
        self._task, self._total, self._every = task, total, every
        self._done = 0.0
        self._start = self._said = time.monotonic()

    def add(self, work: float) -> None:
        """So much more is done; called from one thread at a time."""
        self._done += work
        now = time.monotonic()
        if now - self._said >= self._every and self._done < self._total:
            self._said = now
            share, passed = self._done / self._total, now - self._start
            _logger.info(
                "%s: %d %% after %s, about %s to go.",
                self._task, 100 * share, _clock(passed), _clock(passed / share - passed),
            )  # fmt: skip


def show_on_stderr() -> None:
    """Let a script without a log show progress, memory needs and compilations, and warnings."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for name in _TOOLS_SHOW:
        logging.getLogger(name).setLevel(logging.INFO)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
