"""Runs a function in two processes on this machine that no parent ends together."""

import contextlib
import os
import socket
import time

import pytest
import torch

from fastreid_uda import distributed
from fastreid_uda.errors import sentence
from tests.processes import context

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="gloo is used without CUDA")


def in_two_processes(function, folder, *arguments, limit=120, timeout=distributed.TIMEOUT):
    """Call `function(folder, *arguments)` in two processes, with a time limit of collective calls.

    Returns:
        By rank, what the function returned, or "error: " and what the process ended with; and the
        seconds that both took, which are less than `limit`.
    """
    url, start = f"tcp://127.0.0.1:{free_port()}", time.monotonic()
    both = [
        context.Process(
            target=_run, args=(rank, url, dict(os.environ), timeout, function, folder, arguments)
        )
        for rank in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(max(0.1, limit - (time.monotonic() - start)))
    hanging = [process for process in both if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging, f"{len(hanging)} process(es) hang"
    results = [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]
    return results, time.monotonic() - start


def _run(rank, url, environment, timeout, function, folder, arguments):
    os.environ.update(environment)
    distributed.TIMEOUT = timeout
    path = folder / f"{rank}.pth"

    def call():
        torch.save(function(folder, *arguments), path)

    try:
        place = {"rank": rank, "world_size": 2, "local_rank": rank, "local_size": 2}
        distributed.run_process(call, (), url=url, on_gpu=False, **place)
    except Exception as error:
        torch.save(f"error: {sentence(error) or error}", path)


def free_port():
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
