"""Config files and the command line -> a checked config, with errors that name file and key."""

from __future__ import annotations

import os
from typing import Any

from fastreid.config import get_cfg

from .config import add_uda_config
from .config_checks import check_config
from .config_values import get, merge_mapping, merge_pair
from .errors import UserError
from .user_plugins import KEY as PLUGINS_KEY
from .user_plugins import import_plugins
from .yaml_files import base_chain, read_with_bases

FILES = (
    "OUTPUT_DIR", "MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH", "UDA.MEAN_TEACHER.WEIGHTS",
    "DATASETS.FOLDER.TRAIN", "DATASETS.FOLDER.QUERY", "DATASETS.FOLDER.GALLERY",
    "DATASETS.FOLDER.CSV",
)  # fmt: skip
"""Keys of files and folders, in which ~ is the home folder."""


def load_config(config_file: str, overrides: list[Any] | None = None) -> Any:
    """fast-reid's config with our keys, a config file and overrides; checked, not frozen.

    Args:
        config_file: a YAML; `_BASE_` names the file it inherits from.
        overrides: KEY VALUE KEY VALUE ..., as on the command line.

    Raises:
        UserError: a missing file, an unknown key, or a value that is not accepted.
    """
    plugins = import_plugins(config_file, overrides or [])  # before their keys are made
    cfg = get_cfg()
    add_uda_config(cfg)
    merge_file(cfg, config_file)
    merge_list(cfg, overrides or [], "the command line")
    cfg.UDA.PLUGINS = plugins
    if cfg.UDA.SOURCE.CONFIG:
        cfg.UDA.SOURCE.CONFIG = find_recipe(cfg.UDA.SOURCE.CONFIG, config_file)
    check_config(cfg)
    _expand_home(cfg)
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
    if recipe.UDA.PLUGINS != cfg.UDA.PLUGINS:
        raise UserError(
            f"The source recipe sets {PLUGINS_KEY}, which comes too late to make keys; set it in "
            "the config of the run."
        )
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
    _expand_home(recipe)
    recipe.freeze()
    return recipe


def _expand_home(cfg: Any) -> None:
    """Write the home folder for the ~ at the beginning of paths, in place."""
    for key in FILES:
        group, _, name = key.rpartition(".")
        value = get(cfg, key)
        paths = [
            os.path.expanduser(path) for path in ([value] if isinstance(value, str) else value)
        ]
        get(cfg, group)[name] = paths[0] if isinstance(value, str) else type(value)(paths)


def merge_file(cfg: Any, path: str) -> None:
    """Merge a YAML and its bases into a config, with errors that name file and key."""
    if path:
        merge_mapping(cfg, read_with_bases(path), path)


def merge_list(cfg: Any, overrides: list[Any], place: str) -> None:
    """Merge KEY VALUE pairs into a config, with errors that name the key."""
    if len(overrides) % 2:
        raise UserError(
            f"{place} has {len(overrides)} words after the options, but overrides come in pairs: "
            "KEY VALUE KEY VALUE ..."
        )
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        merge_pair(cfg, str(key), value, place)


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
