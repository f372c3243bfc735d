"""UDA.PLUGINS: modules of the user, imported before the keys of a config are made.

What they register (refiners, clusterers, distances, eps rules, losses, data sets, heads) can then
be chosen by name, and the fields of refiners and their like are config keys. They run with all
rights of the user, so a run says which ones it has imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import traceback
from typing import Any

from yacs.config import CfgNode

from .config_values import merge_pair
from .errors import UserError
from .yaml_files import nearest_value

_logger = logging.getLogger(__name__)

KEY = "UDA.PLUGINS"


def import_plugins(config_file: str, overrides: list[Any]) -> tuple[str, ...]:
    """Import what `UDA.PLUGINS` names, in that order; a module that is there already stays.

    Args:
        config_file: a YAML; of it and its bases the nearest that has the key counts. "": none.
        overrides: KEY VALUE KEY VALUE ..., which win over the file.

    Returns:
        The value of the key, with absolute paths, so that it holds wherever it is written to.

    Raises:
        UserError: the value is no list of names, or one of them cannot be imported.
    """
    value, file = nearest_value(config_file, *KEY.split(".")) if config_file else (None, "")
    place, folder = file, os.path.dirname(os.path.abspath(file)) if file else ""
    for key, given in zip(overrides[::2], overrides[1::2], strict=False):
        if key == KEY:
            value, place, folder = given, "the command line", os.getcwd()
    if value is None:
        return ()
    return tuple(_import(name, folder) for name in _names(value, place))


def _names(value: Any, place: str) -> tuple[str, ...]:
    """The list as every other key would take it."""
    probe = CfgNode({"UDA": {"PLUGINS": ()}})
    merge_pair(probe, KEY, value, place)
    names: tuple[str, ...] = probe.UDA.PLUGINS
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{KEY} is {names!r:.80}, but it must be a list of names in quotes.")
    return names


def _import(name: str, folder: str) -> str:
    """Import a file or a module; its name, or its absolute path."""
    if not name.endswith(".py"):
        _import_module(name, name)
        return name
    path = os.path.join(folder, os.path.expanduser(name))
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise UserError(f"{KEY} names {name}, but there is no file {path}; correct it.")
    _import_file(path)
    return path


def _import_file(path: str) -> None:
    """Import a file under its own name, as a neighbour of which it finds others of its folder.

    The folder is the last one to be searched, so that a file never stands in for an installed
    module; a name that would is refused. Processes and workers that are spawned find it too.
    """
    folder, file = os.path.split(path)
    module = file.removesuffix(".py")
    if not module.isidentifier():
        raise UserError(
            f"{KEY} names {path}, but {module!r} is no name of a Python module; rename the file "
            "with letters, digits and _ alone."
        )
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # a module that was made without one
        spec = None
    origin = spec.origin if spec else None
    if not (origin and os.path.exists(origin) and os.path.samefile(origin, path)):
        raise UserError(
            f"{KEY} names {path}, but another module is called {module} ({origin or 'built in'}); "
            "rename the file."
        )
    _import_module(module, path)


def _import_module(module: str, shown: str) -> None:
    if module in sys.modules:
        return
    _logger.debug("Importing the plug-in %s.", shown)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module}.".startswith(f"{absent}."):
            raise UserError(
                f"{KEY} names the module {shown}, but there is none; correct it, install it, add "
                "its folder to PYTHONPATH, or give the path of a file that ends with .py."
            ) from error
        raise UserError(
            f"{KEY} names {shown}, which cannot be imported ({_place(error)}"
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}); correct it."
        ) from error


def _place(error: BaseException) -> str:
    """File and line where an error was raised, outside of the import machinery."""
    if isinstance(error, SyntaxError):
        return ""  # its text has them
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename != __file__ and "importlib" not in frame.filename]  # fmt: skip
    own = [frame for frame in frames if os.path.dirname(__file__) not in frame.filename]
    last = (own or frames)[-1:]
    return f"{last[0].filename}, line {last[0].lineno}: " if last else ""
