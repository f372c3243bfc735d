"""Write the pages of docs/ that are made from the code, or check that they are current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files import atomic_write
from . import commands, config_tables
from .tables import fill_page

PAGES = {"config.md": config_tables.parts, "commands.md": commands.parts}
"""Page in docs/ -> what makes its parts; the text around them is written by hand."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fastreid_uda.reference", description=__doc__)
    parser.add_argument("--docs", default="docs", metavar="FOLDER", help="(default: docs)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page "
                        "differs from the code")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 1 if `--check` has found a page that is not current."""
    args = parse_arguments(arguments)
    old = []
    for name, parts in PAGES.items():
        path = Path(args.docs, name)
        page = path.read_text(encoding="utf-8")
        made = fill_page(page, parts())
        if made == page:
            continue
        old.append(name)
        if not args.check:
            with atomic_write(str(path)) as file:
                file.write(made.encode())
    for name in old:
        print(f"{name} is not current; run python -m fastreid_uda.reference"
              if args.check else f"{name} written")  # fmt: skip
    return 1 if old and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
