"""Config, output folder and loggers of a run."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

import torch
from fastreid.utils import comm
from fastreid.utils.collect_env import collect_env_info
from fastreid.utils.logger import setup_logger

from ..config_loading import load_config
from ..distributed import require_same, require_shared_folder
from ..errors import UserError
from ..files import atomic_write
from .device import use_cpu_without_gpu
from .from_weights import (
    network_line,
    network_words,
    take_network_from_weights,
    take_network_of_run,
)
from .full_disk import end_run_if_log_fails
from .resume_checks import goes_on
from .run_features import CONFIG
from .seeding import use_deterministic_kernels

logger = logging.getLogger(__name__)

QUIET = ("fastreid.engine", "fastreid.evaluation", "fastreid.utils.checkpoint", "fastreid.data")
"""Loggers of the host whose messages go to log.txt alone."""


def build_config(args: argparse.Namespace) -> Any:
    """The frozen config of a run; `MODEL.DEVICE` is the CPU on a machine without a GPU.

    With MODEL.FROM_WEIGHTS the network is that of the file, or of the run that goes on.
    """
    cfg = load_config(args.config_file, args.opts)
    if goes_on(cfg, args) and os.path.isfile(os.path.join(cfg.OUTPUT_DIR, CONFIG)):
        take_network_of_run(cfg)
    else:
        take_network_from_weights(cfg)
    use_cpu_without_gpu(cfg)
    cfg.freeze()
    return cfg


def set_up_run(cfg: Any, args: argparse.Namespace) -> None:
    """Make the output folder, start the loggers and write the config beside the results.

    The terminal shows what happens; environment, config and network are in OUTPUT_DIR/log.txt.
    """
    rank = comm.get_rank()
    try:
        os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"OUTPUT_DIR is {cfg.OUTPUT_DIR!r}, which cannot be made ({error.strerror})."
        ) from error
    for name in ("fastreid", "fastreid_uda"):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name=name, color=sys.stdout.isatty())
        for handler in logging.getLogger(name).handlers:
            if getattr(handler, "stream", None) in (sys.stdout, sys.__stdout__):
                handler.setLevel(logging.INFO)
                handler.addFilter(_for_the_terminal)
    end_run_if_log_fails(cfg.OUTPUT_DIR)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "No CUDA runtime"
    logger.debug("Environment:\n%s", collect_env_info())
    logger.debug("Command line: %s", args)
    logger.debug("Config:\n%s", cfg)
    require_same("The config", cfg.dump().encode(), "start all with the same files and options")
    require_shared_folder("OUTPUT_DIR", cfg.OUTPUT_DIR)
    if comm.is_main_process():
        with atomic_write(os.path.join(cfg.OUTPUT_DIR, CONFIG)) as file:
            file.write(cfg.dump().encode())
    if cfg.MODEL.DEVICE == "cpu":
        logger.info("Running on the CPU with %d threads.", torch.get_num_threads())
    if cfg.MODEL.FROM_WEIGHTS:
        own = f"Network of the run in {cfg.OUTPUT_DIR}: {network_words(cfg)}."
        logger.info("%s", own if goes_on(cfg, args) else network_line(cfg))
    if cfg.UDA.PLUGINS:
        logger.info("Plug-ins: %s.", ", ".join(cfg.UDA.PLUGINS))
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    use_deterministic_kernels(cfg.UDA.DETERMINISTIC)


def _for_the_terminal(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not record.name.startswith(QUIET)
