"""As many processes as the command line, or torchrun, asks for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from ..distributed import run_process
from ..errors import UserError

_OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
"""The variables of the environment that torchrun sets."""


def start(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Run `main(args)` in this process, in processes of its own, or as one that torchrun started.

    Args:
        main: what every process does; a function that can be imported.
        args: fast-reid's arguments; `--num-gpus` counts the processes of this machine, which train
            on GPUs if there are any and else on the CPU.

    Raises:
        UserError: the arguments do not fit together.
    """
    if all(name in os.environ for name in _OF_TORCHRUN):
        _join_torchrun(main, args)
        return
    from fastreid.engine import launch

    if args.num_machines > 1 and args.dist_url == "auto":
        raise UserError(
            f"--num-machines is {args.num_machines}, but --dist-url does not say where they meet; "
            "add --dist-url tcp://HOST:PORT with the address of machine 0."
        )
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def _join_torchrun(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    if args.num_gpus > 1 or args.num_machines > 1:
        raise UserError(
            "torchrun starts the processes; give it their number (--nproc_per_node, --nnodes) "
            "instead of --num-gpus and --num-machines."
        )
    rank, world_size, local_rank, local_size = (int(os.environ[n]) for n in _OF_TORCHRUN[:4])
    if world_size == 1:
        main(args)
        return
    run_process(
        main,
        (args,),
        url="env://",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_size=local_size,
    )
