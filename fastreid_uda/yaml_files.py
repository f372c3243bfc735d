"""Config files -> nested mappings: YAML without tags, without repeated keys, with bases."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from typing import Any

import yaml

from .errors import UserError
from .shipped_configs import find_config

BASE_KEY = "_BASE_"
_DECIMAL = r"[-+]?(0|[1-9][0-9_]*)"


class _StrictLoader(yaml.SafeLoader):
    """Refuses what YAML would silently take for something else than what is written.

    Those are a key that is there twice, of which YAML takes the last, and the numbers that YAML 1.1
    reads in base 8 (010), 16, 2 or 60 (1:30).
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value} is there twice; keep one of them",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: Any) -> int | float:
        """Integers and floats in decimal."""
        integer = node.tag.endswith(":int")
        value = self.construct_yaml_int(node) if integer else self.construct_yaml_float(node)
        if ":" in node.value or (integer and not re.fullmatch(_DECIMAL, node.value)):
            raise yaml.constructor.ConstructorError(
                problem=f"{node.value} would be read as {value}; write it in decimal, or in quotes "
                "if it is text",
                problem_mark=node.start_mark,
            )
        return value


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_number)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_number)


def read_mapping(path: str, named_by: str = "") -> dict[str, Any]:
    """The content of one YAML file; {} if it is empty.

    Nothing but plain values is made of it, so that reading a file runs no code.

    Args:
        path: of the file.
        named_by: the file whose base it is, for messages.

    Raises:
        UserError: the file is not there, no YAML, or no mapping.
    """
    if os.path.isdir(path):
        raise UserError(f"The config file {path} is a folder; give a YAML file.")
    if not os.path.isfile(path):
        raise UserError(
            f"The config file {path} does not exist; check its name and {BASE_KEY}"
            f"{f' in {named_by}' if named_by else ''} (fastreid-uda configs lists those that are "
            "shipped)."
        )
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, _StrictLoader)
    except OSError as error:
        raise UserError(f"The config file {path} cannot be read ({error.strerror}).") from error
    except RecursionError as error:
        raise UserError(f"{path} is no YAML file of config keys: it is nested too deep.") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date like 2024-13-1
        raise UserError(
            f"{path} is no YAML file ({' '.join(str(error).split())}); correct it."
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is no YAML mapping of config keys; write lines such as UDA: {{ROUNDS: 50}}."
        )
    return content


def base_chain(path: str) -> list[str]:
    """A config file and its bases, nearest first.

    Raises:
        UserError: a file cannot be read, or the bases form a loop.
    """
    return [file for file, _ in _read_chain(path)]


def read_with_bases(path: str) -> dict[str, Any]:
    """The content of a YAML file over that of the file that its `_BASE_` names, and so on."""
    merged: dict[str, Any] = {}
    for file, content in reversed(_read_chain(path)):
        content.pop(BASE_KEY, None)
        try:
            _merge(content, merged)
        except RecursionError as error:  # an alias that holds itself
            raise UserError(f"{file} is nested too deep; write its keys out.") from error
    return merged


def nearest_value(path: str, *names: str) -> tuple[Any, str]:
    """The value of a key in the nearest file of a chain that has it, and that file.

    Args:
        path: a config file.
        names: the groups and the name of the key, e.g. "UDA", "PLUGINS".

    Returns:
        (None, "") if no file has it.
    """
    for file, content in _read_chain(path):
        value: Any = content
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return value, file
    return None, ""


def _read_chain(path: str) -> list[tuple[str, dict[str, Any]]]:
    """(file, content), nearest first."""
    chain: list[tuple[str, dict[str, Any]]] = []
    path = find_config(path)
    while path:
        real = os.path.realpath(path)
        if any(real == os.path.realpath(file) for file, _ in chain):
            names = " -> ".join([*(file for file, _ in chain), path])
            raise UserError(
                f"The config file {path} is its own {BASE_KEY}: {names}; change one of them."
            )
        content = read_mapping(path, named_by=chain[-1][0] if chain else "")
        chain.append((path, content))
        base = content.get(BASE_KEY) or ""
        if not isinstance(base, str):
            raise UserError(f"{path} has the {BASE_KEY} {base!r}, but it must be a file name.")
        path = _base_of(path, os.path.expanduser(base)) if base else ""
    return chain


def _base_of(path: str, base: str) -> str:
    """The path of a file's base: from the file's folder, or a shipped config."""
    beside = os.path.join(os.path.dirname(path), base)
    shipped = find_config(base)
    return beside if os.path.exists(beside) or not os.path.isabs(shipped) else shipped


def _merge(content: dict[str, Any], merged: dict[str, Any]) -> None:
    """Put the values of a file over those of its bases, in place."""
    for key, value in content.items():
        below = merged.get(key)
        if isinstance(value, dict):
            if not isinstance(below, dict):
                below = merged[key] = {}
            _merge(value, below)
        elif value is not None or not isinstance(below, dict):  # "UDA:" alone changes nothing
            merged[key] = value
