"""Classes by name, their hyper-parameters, and the import of all modules of a folder."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, TypeVar

from .errors import UserError

T = TypeVar("T", bound=type)


class Registry:
    """Classes that the config selects by name.

    The hyper-parameters of a registered class are the arguments of its constructor, each with a
    default; `fastreid_uda.config` turns them into config keys, so they are written down once.

    Args:
        key: the config key that selects, named in error messages, e.g. `UDA.REFINERS`.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._classes: dict[str, type] = {}

    def register(self, cls: T) -> T:
        """Make a class selectable under its own name (a decorator)."""
        if cls.__name__ in self._classes:
            raise KeyError(
                f"{cls.__name__} is registered twice for {self.key}; give one of them another name"
            )
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.default is inspect.Parameter.empty:
                raise TypeError(f"{cls.__name__}.{name} needs a default: it becomes a config key.")
        self._classes[cls.__name__] = cls
        return cls

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def __contains__(self, name: str) -> bool:
        return name in self._classes

    def get(self, name: str) -> type:
        """The class registered as `name`.

        Raises:
            UserError: naming the key, the value and the known names.
        """
        if name not in self._classes:
            known = ", ".join(self) or "none"
            raise UserError(f"{self.key} is {name!r}, but the known names are: {known}.")
        return self._classes[name]

    def defaults(self, name: str) -> dict[str, Any]:
        """The constructor arguments of a class with their default values, in order."""
        parameters = inspect.signature(self.get(name)).parameters
        values = {}
        for argument, parameter in parameters.items():
            value = parameter.default
            if value is dataclasses.MISSING or repr(value) == "<factory>":
                raise TypeError(f"{name}.{argument} needs a plain default value.")
            values[argument] = value
        return values

    def build(self, name: str, **arguments: Any) -> Any:
        """An instance of the class registered as `name`."""
        return self.get(name)(**arguments)


LOSSES = Registry("MODEL.LOSSES.NAME")
"""Subclasses of `modeling.losses.Loss`; here, because the config reads it without torch."""


def import_siblings(package: str, path: list[str]) -> None:
    """Import every module of a package's folder, so that their registrations take place.

    Errors propagate: a module that cannot be imported is a defect, not a missing choice.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
