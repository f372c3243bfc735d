"""An error in one process of a run ends all of them, within seconds and with the same message."""

from __future__ import annotations

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


class ProcessWatch:
    """Tells the other processes of an error in this block, and hears of theirs.

    A process that waits in a collective call for one that has failed would wait for ever (NCCL) or
    end with a message about a lost connection (gloo). So the process that fails leaves its message
    in the store that all have met in; a thread of every other process looks there, and ends its
    process if that does not end by itself.

    Args:
        store: a connection of its own, which no other thread uses.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._message = ""  # of another process that has failed
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="process watch", daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._over.set()
        if error is None:
            self._leave("left", seconds=_GRACE)
            return
        message = self._tell(error)
        self._leave("heard", seconds=_GRACE)
        if sentence(error) is None and message is not None:
            raise UserError(message) from error

    def _tell(self, error: BaseException) -> str | None:
        """Leave the message of this process; gives that of another one that was first."""
        text = sentence(error) or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        own = f"{self._rank}|Process {self._rank} has failed ({text})."
        if sentence(error) is not None:
            own = f"{self._rank}|{text}"
        # What another process has to say is the reason if here only the connection was lost.
        lost = sentence(error) is None and isinstance(error, RuntimeError)
        deadline = time.monotonic() + (2 * _LOOK if lost else 0)
        try:
            while lost and not self._heard() and time.monotonic() < deadline:
                time.sleep(0.05)
            with self._lock:
                first = self._store.compare_set("error", "", own).decode()
        except RuntimeError:  # the process that kept the store is gone
            return self._message or None
        return None if first == own else first.partition("|")[2]

    def _leave(self, word: str, seconds: float) -> None:
        """Rank 0, which may keep the store, goes last: its connection says why a run has ended."""
        try:
            with self._lock:
                self._store.add(word, 1)
            deadline = time.monotonic() + seconds
            while self._rank == 0 and time.monotonic() < deadline:
                with self._lock:
                    if self._store.add(word, 0) >= self._world_size:
                        return
                time.sleep(0.05)
        except RuntimeError:
            return

    def _heard(self) -> str:
        """The message of a process that has failed; "" if there is none."""
        with self._lock:
            if not self._message and self._store.check(["error"]):
                self._message = self._store.get("error").decode().partition("|")[2]
            return self._message

    def _look(self) -> None:
        while not self._over.wait(_LOOK):
            try:
                message = self._heard()
            except RuntimeError:
                message = "The main process is gone, without a word; look at its machine."
            if message and not self._over.is_set():
                self._end(message)

    def _end(self, message: str) -> None:
        """End this process, unless it ends by itself."""
        logger.debug("Another process has failed: %s", message)
        try:
            with self._lock:
                self._store.add("heard", 1)
        except RuntimeError:
            pass
        if not self._over.wait(_GRACE):
            print(f"error: {message}", file=sys.stderr, flush=True)
            os._exit(2)


def connect(url: str) -> Any:
    """A further connection to the store in which the processes of a run have met.

    Args:
        url: tcp://HOST:PORT, or env:// for the variables of torchrun.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme == "env":
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, None, False, timedelta(minutes=1), wait_for_workers=False)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if parts.scheme == "env" else "0"
    return dist.PrefixStore(f"fastreid_uda/{attempt}", store)
