"""The sections of docs/commands.md: the options of every command, from its parser."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from collections.abc import Iterator
from unittest import mock

from ..cli import COMMANDS, PROGRAM
from .tables import table

HEADER = ("argument", "meaning")
_WIDTH = 88  # of usage lines


def parts() -> dict[str, str]:
    """The one part of the page: a section for each command that there is."""
    names = [name for name in COMMANDS if _module(name)]
    return {"commands": "\n\n".join(_section(name) for name in names)}


def _module(name: str) -> str:
    """The full name of a command's module, "" if it is not there."""
    module = f"fastreid_uda.cli.{name.replace('-', '_')}"
    return module if importlib.util.find_spec(module) else ""


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command, caught while it shows its help."""
    caught: list[argparse.ArgumentParser] = []
    parse = importlib.import_module(_module(name)).parse_arguments
    with (
        mock.patch.object(
            argparse.ArgumentParser, "print_help", lambda parser: caught.append(parser)
        ),
        contextlib.suppress(SystemExit),
    ):
        parse(["--help"])
    return caught[0]


def _section(name: str) -> str:
    parser = parser_of(name)
    rows = [[_names(action), _help(action, parser)] for action in _actions(parser)]
    usage = _wrapped(f"{PROGRAM} {name}", [_usage(action) for action in _actions(parser)])
    text = " ".join((parser.description or "").split())
    return f"## {name}\n\n{text}\n\n```\n{usage}\n```\n\n{table(HEADER, rows)}"


def _wrapped(start: str, words: list[str]) -> str:
    """The start and the words, none of them broken, in lines of at most 88 characters."""
    lines, indent = [start], " " * len(start)
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH and lines[-1].strip():
            lines.append(indent)
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS:
            yield action


def _value(action: argparse.Action) -> str:
    """The word for an argument's value, "" if it takes none."""
    if action.nargs == 0:
        return ""
    metavar = action.metavar
    if action.choices is not None and metavar is None:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    if isinstance(metavar, tuple):
        return " ".join(metavar)
    return metavar or action.dest.upper()


def _names(action: argparse.Action) -> str:
    words = [f"{name} {_value(action)}".strip() for name in action.option_strings]
    named = ", ".join(f"`{word}`" for word in words or [_value(action)])
    return named.replace("|", "` or `")  # which would end a cell


def _usage(action: argparse.Action) -> str:
    longest = max(action.option_strings, key=len, default="")
    word = f"{longest} {_value(action)}".strip()
    if action.nargs in ("*", argparse.REMAINDER, "+") and not isinstance(action.metavar, tuple):
        word += " ..."
    optional = action.nargs in ("?", "*", argparse.REMAINDER) and not longest
    return f"[{word}]" if optional or (longest and not action.required) else word


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    facts = dict(vars(action), prog=parser.prog)
    facts["choices"] = ", ".join(map(str, action.choices or ()))
    text = (action.help or "") % facts
    return f"{text}; required" if action.option_strings and action.required else text
