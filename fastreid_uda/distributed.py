"""Several processes as one: what one of them computes and all need, and waiting without limit."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from fastreid.utils import comm

from .errors import UserError
from .process_watch import ProcessWatch, connect

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""Of a collective call. Waiting for what the main process computes alone has no limit."""

_PAUSES = (0.005, 0.5)
"""Seconds between two looks at whether the main process is ready: at first, and at most."""


class _Board:
    """Counts the words of the main process, for which the others wait one after the other.

    A collective call fails when a process comes later than `TIMEOUT`; a look at the store does not.
    Where others than `run_process` have brought the processes together, there is no store and no
    word: the collective call that follows is all.
    """

    store: Any = None
    words = 0

    def announce(self) -> None:
        if self.store is not None:
            self.store.add("words", 1)

    def wait(self) -> None:
        self.words += 1
        pause = _PAUSES[0]
        while self.store is not None and self.store.add("words", 0) < self.words:
            time.sleep(pause)
            pause = min(1.5 * pause, _PAUSES[1])


_board = _Board()


def run_process(
    main: Callable[..., Any],
    args: tuple,
    *,
    url: str,
    rank: int,
    world_size: int,
    local_rank: int,
    local_size: int,
    on_gpu: bool,
) -> None:
    """One process of a run of several: join the others, call `main(*args)`, leave together.

    NCCL with a GPU each, or gloo on the CPU. An error of any process ends all of them with its
    message, see `ProcessWatch`.

    Args:
        main: what every process does.
        args: of `main`.
        url: where the processes meet: tcp://HOST:PORT, or env:// for the variables of torchrun.
        rank: of this process.
        world_size: number of processes.
        local_rank: of this process among those of its machine; the number of its GPU.
        local_size: number of processes of a machine, the same on each.
        on_gpu: whether each has a GPU.

    Raises:
        UserError: there are fewer GPUs than processes, the processes do not meet, or another one
            has failed.
    """
    if on_gpu and local_size > torch.cuda.device_count():
        raise UserError(
            f"{local_size} processes are asked for on this machine (--num-gpus), but it has "
            f"{torch.cuda.device_count()} GPU(s)."
        )
    if on_gpu:
        # Before the first collective call, which otherwise takes GPU 0 on every rank.
        torch.cuda.set_device(local_rank)
    backend = "nccl" if on_gpu else "gloo"
    try:
        dist.init_process_group(
            backend, init_method=url, world_size=world_size, rank=rank, timeout=TIMEOUT
        )
        watched, board = connect(url), connect(url)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"The processes cannot meet at {url} ({' '.join(str(error).split())[:120]}); look "
            "whether the address is that of machine 0 and its port is free (--dist-url "
            "tcp://HOST:PORT, or --master_port of torchrun)."
        ) from error
    with ProcessWatch(watched, rank, world_size):
        _board.store, _board.words = board, 0
        _make_machine_group(rank, world_size, local_size)
        main(*args)
        wait_for_main()
    dist.destroy_process_group()


def _make_machine_group(rank: int, world_size: int, local_size: int) -> None:
    """The group of the processes of this machine, which fast-reid asks for the local rank."""
    comm.synchronize()
    sizes = set(comm.all_gather(local_size))
    if len(sizes) > 1:
        raise UserError(
            f"The machines have {', '.join(map(str, sorted(sizes)))} processes; start the same "
            "number on each."
        )
    for first in range(0, world_size, local_size):
        # Every rank takes part in making every group, and keeps that of its own machine.
        group = dist.new_group(list(range(first, first + local_size)), timeout=TIMEOUT)
        if first <= rank < first + local_size:
            comm._LOCAL_PROCESS_GROUP = group


def on_main_process(function: Callable[[], T]) -> T:
    """Run a function on rank 0 and give its result, or its error, to all ranks.

    The other ranks look for a word of rank 0 instead of waiting in a collective call, because the
    function may take longer than `TIMEOUT`. The word says that there is a result or an error, which
    then goes to all: an error on rank 0 is an error on all ranks and not a hang.
    """
    if comm.get_world_size() == 1:
        return function()
    message: list = [None, None]
    if comm.is_main_process():
        try:
            message = [function(), None]
        except Exception as failure:
            message = [None, _that_travels(failure)]
        _board.announce()
    else:
        _board.wait()
    dist.broadcast_object_list(message, src=0, group=comm._get_global_gloo_group())
    result, error = message
    if error is not None:
        raise error
    return result


def _that_travels(failure: Exception) -> Exception:
    """The error, or what can be sent of it to other processes."""
    try:
        pickle.loads(pickle.dumps(failure))
    except Exception:
        return RuntimeError(f"{type(failure).__name__}: {failure}")
    return failure


def wait_for_main() -> None:
    """Wait until all ranks are here, for rank 0 without a limit of time."""
    if comm.get_world_size() == 1:
        return
    if comm.is_main_process():
        _board.announce()
    else:
        _board.wait()
    comm.synchronize()


def require_same(what: str, content: bytes, advice: str) -> None:
    """Raise a `UserError` on all ranks unless all have the same bytes.

    Args:
        what: named in the sentence, in the singular.
        content: of this rank.
        advice: what the user can do.
    """
    if comm.get_world_size() == 1:
        return
    digests = comm.all_gather(hashlib.sha256(content).hexdigest())
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise UserError(f"{what} of process {others[0]} is not that of process 0; {advice}.")


def require_shared_folder(key: str, folder: str) -> None:
    """Raise a `UserError` on all ranks unless all see what rank 0 writes into a folder.

    Args:
        key: the config key that names it.
        folder: which exists on every rank.
    """
    if comm.get_world_size() == 1:
        return

    def leave() -> str:
        handle, path = tempfile.mkstemp(dir=folder, prefix=".shared.", suffix=".tmp")
        os.close(handle)
        return path

    path = on_main_process(leave)
    try:
        seen = str(os.path.exists(path)).encode()
        require_same(f"The folder {key} ({folder})", seen, "put it on a disk that all share")
    finally:
        if comm.is_main_process():
            os.unlink(path)
