"""What one process computes and all processes need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from fastreid.utils import comm

T = TypeVar("T")


def on_main_process(function: Callable[[], T]) -> T:
    """Run a function on rank 0 and give its result, or its error, to all ranks.

    The status travels with the result, so that an error on rank 0 is an error on all ranks and not
    a hang in the next collective call.
    """
    if comm.get_world_size() == 1:
        return function()
    message: list = [None, None]
    if comm.is_main_process():
        try:
            message = [function(), None]
        except Exception as failure:
            message = [None, failure]
    dist.broadcast_object_list(message, src=0, group=comm._get_global_gloo_group())
    result, error = message
    if error is not None:
        raise error
    return result


def all_true(condition: bool) -> bool:
    """Whether a condition holds on every rank."""
    return all(comm.all_gather(condition)) if comm.get_world_size() > 1 else condition
