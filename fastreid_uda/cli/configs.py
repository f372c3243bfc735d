"""List the shipped configs, or copy them with all that they inherit from."""

from __future__ import annotations

import argparse
import os
from fnmatch import fnmatch
from pathlib import Path

from ..errors import UserError
from ..files import atomic_write
from ..shipped_configs import config_names, shipped_configs
from ..yaml_files import base_chain, read_with_bases
from .ending import exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="configs, folders of them or patterns, e.g. "
        "Duke2Market, USL/Market/secret.yml, '*/nplp.yml' (default: all)")  # fmt: skip
    add("--to", metavar="FOLDER", help="copy them there; their paths inside it stay as they are")
    add("--force", action="store_true", help="replace files that are there (default: refuse)")
    add("--folder", action="store_true", help="print the folder of the shipped configs")
    return parser.parse_args(arguments)


def chosen(names: list[str]) -> list[str]:
    """The shipped configs that the words name, each at least one.

    Raises:
        UserError: a word names none.
    """
    known = config_names()
    found: set[str] = set()
    for name in names or ["*"]:
        plain = name.strip("/").removeprefix("configs/")
        own = {path for path in known if path.startswith(f"{plain}/") or fnmatch(path, plain)}
        if not own:
            folders = sorted({path.rpartition("/")[0] for path in known} - {""})
            raise UserError(
                f"{name!r} names no shipped config; there are Base-UDA.yml and those in "
                f"{', '.join(folder for folder in folders if '/ablations' not in folder)}."
            )
        found |= own
    return sorted(found)


def with_bases(names: list[str]) -> list[str]:
    """The configs and everything that they read: their bases and their source recipes."""
    folder = shipped_configs()
    needed, to_read = set(), list(names)
    while to_read:
        chain = base_chain(str(folder / to_read.pop()))
        found = {Path(path).resolve().relative_to(folder.resolve()).as_posix() for path in chain}
        recipe = read_with_bases(chain[0]).get("UDA", {}).get("SOURCE", {}).get("CONFIG")
        to_read += [recipe] if recipe and recipe not in needed else []
        needed |= found
    return sorted(needed)


def copy(names: list[str], folder: str, force: bool) -> None:
    """Copy shipped configs.

    Raises:
        UserError: a file is there already, or the folder cannot be written.
    """
    there = [name for name in names if os.path.lexists(os.path.join(folder, name))]
    if there and not force:
        raise UserError(
            f"{folder} has {len(there)} of the files already, e.g. {there[0]}; add --force to "
            "replace them, or give another folder."
        )
    for name in names:
        try:
            with atomic_write(os.path.join(folder, name)) as file:
                file.write((shipped_configs() / name).read_bytes())
        except OSError as error:
            raise UserError(
                f"--to is {folder}, where {name} cannot be written ({error.strerror}); give "
                "another folder."
            ) from error


def show(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if args.folder:
        print(shipped_configs())
        return
    names = chosen(args.names)
    if args.to is None:
        print("\n".join(names))
        return
    if not args.to:
        raise UserError("--to is empty; name a folder.")
    names = with_bases(names)
    copy(names, args.to, args.force)
    print(f"{len(names)} configs are in {args.to}, with what they inherit from.")


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    return exit_code(lambda: show(args))
