"""As many processes as the command line, or torchrun, asks for."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from torch.multiprocessing.spawn import ProcessExitedException

from ..distributed import run_process
from ..errors import UserError
from ..process_watch import ENDED_BY_OTHERS
from .defaults import build_config

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
    # A wrong key is found here, before any process is started.
    on_gpu = build_config(args).MODEL.DEVICE.startswith("cuda")
    if all(name in os.environ for name in _OF_TORCHRUN):
        _join_torchrun(main, args, on_gpu)
        return
    if args.num_machines > 1 and args.dist_url == "auto":
        raise UserError(
            f"--num-machines is {args.num_machines}, but --dist-url does not say where they meet; "
            "add --dist-url tcp://HOST:PORT with the address of machine 0."
        )
    if args.num_gpus > 1 or args.num_machines > 1:
        if not on_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # MODEL.DEVICE cpu, for the processes to come
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    _launch(main, args)


def _launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """fast-reid's launcher; it ends all processes of this machine when one of them has failed."""
    from fastreid.engine import launch

    try:
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        if error.signal_name is None and error.exit_code == ENDED_BY_OTHERS:
            sys.exit(ENDED_BY_OTHERS)  # it has said why
        raise UserError(
            f"Process {error.error_index} of this machine was ended from outside "
            f"({error.signal_name or error.exit_code}; by the system, if the memory was full); "
            "continue with --resume."
        ) from error


def _join_torchrun(
    main: Callable[[argparse.Namespace], Any], args: argparse.Namespace, on_gpu: bool
) -> None:
    if args.num_gpus > 1 or args.num_machines > 1:
        raise UserError(
            "torchrun starts the processes; give it their number (--nproc_per_node, --nnodes) "
            "instead of --num-gpus and --num-machines."
        )
    rank, world_size, local_rank, local_size = (int(os.environ[n]) for n in _OF_TORCHRUN[:4])
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)):
        args.resume = True  # --max-restarts: the processes of before were ended
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
        on_gpu=on_gpu,
    )
