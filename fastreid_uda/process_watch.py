"""An error in one process of a run ends all of them, within seconds and with the same message."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch.distributed as dist

from .errors import UserError, sentence

logger = logging.getLogger(__name__)

_LOOK = 0.5
"""Seconds between two looks for an error of another process."""
_GRACE = 5.0
"""Seconds that a process is given to end by itself after another one has failed."""
_SILENCE = 60.0
"""Seconds without a sign of life after which a process, or the store, is taken to be gone."""


ENDED_BY_OTHERS = 2
"""Exit code of a process that could not end by itself when another one had failed."""


class ProcessWatch:
    """Tells the other processes of an error in this block, and hears of theirs.

    A process that waits in a collective call for one that has failed would wait for ever (NCCL) or
    end with a message about a lost connection (gloo). So the process that fails leaves its message
    in the store that all have met in; a thread of every other process looks there, and ends its
    process if that does not end by itself. With every look it leaves a sign of life, from which
    rank 0 knows of processes that are gone without a word; a store that does not answer is the
    machine of rank 0 that is gone.

    Args:
        store: a connection of its own, which no other thread uses.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._message = ""  # of another process that has failed
        self._answered = time.monotonic()
        self._signs: dict[int, tuple[int, float]] = {}  # rank -> last sign of life, and when
        self._counted = False
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> ProcessWatch:
        for task in (self._look, self._look_at_the_clock):
            threading.Thread(target=task, name="process watch", daemon=True).start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._over.set()
        if error is None:
            self._leave("left")
            return
        message = self._tell(error)
        self._leave("heard")
        if message and isinstance(error, Exception):
            raise UserError(message) from error

    def _tell(self, error: BaseException) -> str:
        """Leave the message of this process; gives that of another one that was first."""
        known = sentence(error)
        own = known or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if known is None:
            own = f"Process {self._rank} has failed ({own})."
        # What another process has to say is the reason if here only the connection was lost.
        lost = known is None and isinstance(error, RuntimeError)
        deadline = time.monotonic() + (2 * _LOOK if lost else 0)
        with contextlib.suppress(RuntimeError):  # the process that kept the store may be gone
            while lost and not self._heard() and time.monotonic() < deadline:
                time.sleep(0.05)
            if not self._message:
                first = self._post(own)
                return "" if first == own else first
        return self._message

    def _post(self, message: str) -> str:
        """Leave a message, unless there is one; gives the one that is there."""
        with self._lock:
            first = self._store.compare_set("error", "", message).decode()
            self._store.add("errors", 1)
        return first

    def _leave(self, word: str) -> None:
        """Rank 0, which may keep the store, goes last: its connection says why a run has ended."""
        deadline = time.monotonic() + _GRACE
        with contextlib.suppress(RuntimeError), self._lock:
            if not self._counted:
                self._store.add(word, 1)
            while self._rank == 0 and time.monotonic() < deadline:
                if self._store.add(word, 0) >= self._world_size:
                    return
                time.sleep(0.05)

    def _heard(self) -> str:
        """The message of a process that has failed; "" if there is none."""
        with self._lock:
            if not self._message and self._store.add("errors", 0):
                self._message = self._store.get("error").decode()
            return self._message

    def _look(self) -> None:
        """The first thread: messages and signs of life."""
        while not self._over.wait(_LOOK):
            try:
                message = self._heard() or self._missing()
            except RuntimeError:
                message = "The main process is gone, without a word; look at its machine."
            self._answered = time.monotonic()
            if message and not self._over.is_set():
                self._end(message)
                return

    def _missing(self) -> str:
        """Leave a sign of life; on rank 0, the name of a process that leaves none."""
        with self._lock:
            self._store.add(f"alive/{self._rank}", 1)
            others = range(1, self._world_size if self._rank == 0 else 0)
            signs = {rank: self._store.add(f"alive/{rank}", 0) for rank in others}
        now = time.monotonic()
        for rank, sign in signs.items():
            before, since = self._signs.get(rank, (-1, now))
            self._signs[rank] = (sign, now if sign != before else since)
            if now - self._signs[rank][1] > _SILENCE:
                return (
                    f"Process {rank} has given no sign of life for {_SILENCE:.0f} seconds: it was "
                    "killed, or its machine is gone; continue with --resume."
                )
        return ""

    def _look_at_the_clock(self) -> None:
        """The second thread: a store that does not answer keeps the first one waiting."""
        while not self._over.wait(_LOOK):
            if time.monotonic() - self._answered > _SILENCE:
                _stop(
                    f"The main process has not answered for {_SILENCE:.0f} seconds; look at its "
                    "machine, and continue with --resume."
                )

    def _end(self, message: str) -> None:
        """End this process, unless it ends by itself."""
        logger.debug("Another process has failed: %s", message)
        self._message = message
        with contextlib.suppress(RuntimeError):
            self._post(message)
            with self._lock:
                self._store.add("heard", 1)
                self._counted = True
        if not self._over.wait(_GRACE):
            _stop(message)


def _stop(message: str) -> None:
    """End this process at once: its main thread waits where no exception reaches it."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(ENDED_BY_OTHERS)


def connect(url: str) -> Any:
    """A further connection to the store in which the processes of a run have met.

    Args:
        url: tcp://HOST:PORT, or env:// for the variables of torchrun.
    """
    parts = urlsplit(url)
    host, port, attempt = parts.hostname, parts.port, "0"
    if parts.scheme == "env":
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.TCPStore(host, port, None, False, timedelta(minutes=1), wait_for_workers=False)
    return dist.PrefixStore(f"fastreid_uda/{attempt}", store)
