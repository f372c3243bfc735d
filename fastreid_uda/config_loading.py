"""Config files and the command line -> a checked config, with errors that name file and key."""

from __future__ import annotations

import difflib
import os
from typing import Any

import yaml
from fastreid.config import get_cfg

from .config import add_uda_config, check_config
from .errors import UserError

BASE_KEY = "_BASE_"
EPS_KEY = "UDA.CLUSTER.EPS"
"""A number, a word or None: yacs would only accept the kind of value that it has already."""


def load_config(config_file: str, overrides: list[Any] | None = None) -> Any:
    """fast-reid's config with our keys, a config file and overrides; checked, not frozen.

    Args:
        config_file: a YAML; `_BASE_` names the file it inherits from.
        overrides: KEY VALUE KEY VALUE ..., as on the command line.

    Raises:
        UserError: a missing file, an unknown key, or a value that is not accepted.
    """
    cfg = get_cfg()
    add_uda_config(cfg)
    merge_file(cfg, config_file)
    merge_list(cfg, overrides or [], "the command line")
    if cfg.UDA.SOURCE.CONFIG:
        cfg.UDA.SOURCE.CONFIG = find_recipe(cfg.UDA.SOURCE.CONFIG, config_file)
    check_config(cfg)
    return cfg


def source_config(cfg: Any, stage: str, student: int = 0) -> Any:
    """The config of supervised training: the run's config under its recipe.

    The recipe (`UDA.SOURCE.CONFIG`, then `UDA.SOURCE.OPTS`) brings solver, losses and augmentation;
    everything else, above all the network, is the run's own.

    Args:
        cfg: of the run.
        stage: `source` or `supervised`, the subfolder of OUTPUT_DIR.
        student: of the stage `source`, if there are several: whose network is trained. Network n of
            S, from 1, goes to `source_<n>` and has the seed S * UDA.SEED + n, which no network of a
            run with another seed has: 1 and 2 of two networks and UDA.SEED 0.
    """
    recipe = cfg.clone()
    recipe.defrost()
    recipe.UDA.FREEZE_EPOCHS = 0
    recipe.UDA.ITERS_PER_EPOCH = 0
    if cfg.UDA.SOURCE.CONFIG:
        merge_file(recipe, cfg.UDA.SOURCE.CONFIG)
    merge_list(recipe, cfg.UDA.SOURCE.OPTS, "UDA.SOURCE.OPTS")
    recipe.UDA.MEAN_TEACHER.ENABLED = False  # true labels need no teacher
    recipe.UDA.MEAN_TEACHER.STUDENTS, recipe.UDA.MEAN_TEACHER.WEIGHTS = 1, ()
    folder, students = stage, cfg.UDA.MEAN_TEACHER.STUDENTS
    if stage == "source" and students > 1:
        folder = f"source_{student + 1}"
        recipe.UDA.SEED = students * cfg.UDA.SEED + student + 1
    recipe.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, folder)
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
            raise UserError(f"The config file {file} does not exist; check its name and _BASE_.")
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
        if key == EPS_KEY:
            cfg.UDA.CLUSTER.EPS = None
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
    keys: list[str] = []
    for name, value in cfg.items():
        keys += all_keys(value, f"{prefix}{name}.") if hasattr(value, "items") else [prefix + name]
    return keys
