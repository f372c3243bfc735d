"""From the command line to a checked config, an output folder and loggers."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
from typing import Any

import torch
import yaml
from fastreid.config import get_cfg
from fastreid.engine.defaults import default_argument_parser as fastreid_argument_parser
from fastreid.utils import comm
from fastreid.utils.collect_env import collect_env_info
from fastreid.utils.logger import setup_logger

from ..config import add_uda_config, check_config
from ..errors import UserError
from .files import atomic_write
from .seeding import use_deterministic_kernels

logger = logging.getLogger(__name__)

BASE_KEY = "_BASE_"


def default_argument_parser() -> argparse.ArgumentParser:
    """fast-reid's own arguments."""
    parser = fastreid_argument_parser()
    parser.description = (
        "Adapt a person re-ID network from a labelled source domain to an unlabelled target."
    )
    return parser


def build_config(args: argparse.Namespace) -> Any:
    """fast-reid's config with our keys, the config file and the command line, checked and frozen.

    Raises:
        UserError: a missing file, an unknown key, or a value that is not accepted.
    """
    cfg = get_cfg()
    add_uda_config(cfg)
    merge_file(cfg, args.config_file)
    merge_list(cfg, args.opts or [], "the command line")
    if cfg.UDA.SOURCE.CONFIG:
        cfg.UDA.SOURCE.CONFIG = find_recipe(cfg.UDA.SOURCE.CONFIG, args.config_file)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    check_config(cfg)
    cfg.freeze()
    return cfg


def source_config(cfg: Any, stage: str) -> Any:
    """The config of supervised training: the run's config under its recipe.

    The recipe (`UDA.SOURCE.CONFIG`, then `UDA.SOURCE.OPTS`) brings solver, losses and augmentation;
    everything else, above all the network, is the run's own.

    Args:
        cfg: of the run.
        stage: `source` or `supervised`, the subfolder of OUTPUT_DIR.
    """
    recipe = cfg.clone()
    recipe.defrost()
    recipe.UDA.FREEZE_EPOCHS = 0
    recipe.UDA.ITERS_PER_EPOCH = 0
    if cfg.UDA.SOURCE.CONFIG:
        merge_file(recipe, cfg.UDA.SOURCE.CONFIG)
    merge_list(recipe, cfg.UDA.SOURCE.OPTS, "UDA.SOURCE.OPTS")
    recipe.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, stage)
    recipe.DATASETS.NAMES = cfg.DATASETS.NAMES if stage == "source" else cfg.UDA.TARGET
    recipe.MODEL.WEIGHTS = ""
    check_config(recipe)
    recipe.freeze()
    return recipe


def merge_file(cfg: Any, path: str) -> None:
    """Merge a YAML and its bases into a config, with errors that name file and key."""
    if not path:
        return
    for file in base_chain(path):
        if not os.path.isfile(file):
            raise UserError(f"The config file {file} does not exist; check --config-file and _BASE_.")
    try:
        cfg.merge_from_file(path)
    except (KeyError, ValueError, AssertionError, yaml.YAMLError, AttributeError) as error:
        raise _explain(error, cfg, path) from error


def merge_list(cfg: Any, overrides: list[Any], place: str) -> None:
    """Merge KEY VALUE pairs into a config, with errors that name the key."""
    if len(overrides) % 2:
        raise UserError(
            f"{place} has {len(overrides)} words after the options, but overrides come in pairs: "
            "KEY VALUE KEY VALUE ..."
        )
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        try:
            cfg.merge_from_list([str(key), value])
        except (KeyError, ValueError, AssertionError, AttributeError) as error:
            raise _explain(error, cfg, place, str(key)) from error


def base_chain(path: str) -> list[str]:
    """A config file and its bases, nearest first.

    Raises:
        UserError: a file is no YAML mapping, or the bases form a loop.
    """
    chain: list[str] = []
    while path:
        if os.path.abspath(path) in map(os.path.abspath, chain):
            raise UserError(f"The config file {path} is its own {BASE_KEY}: {' -> '.join(chain)}.")
        chain.append(path)
        if not os.path.isfile(path):
            break
        try:
            with open(path, encoding="utf-8") as file:
                content = yaml.safe_load(file) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is no YAML file ({' '.join(str(error).split())}).") from error
        if not isinstance(content, dict):
            raise UserError(f"{path} is no YAML mapping of config keys.")
        base = os.path.expanduser(content.get(BASE_KEY, ""))
        path = os.path.join(os.path.dirname(path), base) if base else ""
    return chain


def find_recipe(name: str, config_file: str) -> str:
    """The path of a recipe, looked for beside the config file and its bases and above them.

    Raises:
        UserError: it is in none of the folders.
    """
    folders = [os.getcwd()]
    for file in base_chain(config_file):
        folder = os.path.dirname(os.path.abspath(file))
        folders += [folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))]
    for folder in folders:
        path = os.path.join(folder, os.path.expanduser(name))
        if os.path.isfile(path):
            return path
    raise UserError(
        f"UDA.SOURCE.CONFIG is {name!r}, but there is no such file in {', '.join(folders)}."
    )


def _explain(error: Exception, cfg: Any, place: str, key: str = "") -> UserError:
    """A sentence for what yacs says about a key or a value."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    if "Non-existent" in text or isinstance(error, (KeyError, AttributeError)) or not text:
        unknown = text.rsplit(": ", 1)[-1].strip("'\"") if "Non-existent" in text else key
        close = difflib.get_close_matches(unknown, list(all_keys(cfg)), n=1, cutoff=0.5)
        advice = f"; did you mean {close[0]}?" if close else "; see docs/config.md."
        return UserError(f"{place} sets the key {unknown}, which does not exist{advice}")
    return UserError(f"{place} sets {key or 'a key'} to a value that is not accepted: {text}")


def all_keys(cfg: Any, prefix: str = "") -> list[str]:
    """The full names of all keys of a config."""
    keys = []
    for name, value in cfg.items():
        keys += all_keys(value, f"{prefix}{name}.") if hasattr(value, "items") else [prefix + name]
    return keys


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
        setup_logger(
            cfg.OUTPUT_DIR, distributed_rank=rank, name=name, color=sys.stdout.isatty()
        )
        for handler in logging.getLogger(name).handlers:
            if getattr(handler, "stream", None) in (sys.stdout, sys.__stdout__):
                handler.setLevel(logging.INFO)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "No CUDA runtime"
    logger.debug("Environment:\n%s", collect_env_info())
    logger.debug("Command line: %s", args)
    logger.debug("Config:\n%s", cfg)
    if comm.is_main_process():
        with atomic_write(os.path.join(cfg.OUTPUT_DIR, "config.yaml")) as file:
            file.write(cfg.dump().encode())
    if cfg.MODEL.DEVICE == "cpu":
        logger.info("Running on the CPU with %d threads.", torch.get_num_threads())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    use_deterministic_kernels(cfg.UDA.DETERMINISTIC)
