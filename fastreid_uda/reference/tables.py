"""Tables of Markdown, and the parts of a page that are made anew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; `|` in cells is escaped, lines are joined."""
    lines = [_line(header), _line(["---"] * len(header)), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    shown = [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(shown)} |"


def fill_page(page: str, parts: Mapping[str, str]) -> str:
    """The page with what is between `<!-- made: NAME -->` and `<!-- end -->` replaced.

    Args:
        page: its text.
        parts: NAME -> the new text.

    Raises:
        KeyError: the page asks for a part that there is not, or has no place for one.
    """
    pattern = re.compile(r"<!-- made: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
    missing = set(parts) ^ set(pattern.findall(page))
    if missing:
        raise KeyError(f"Page and parts differ in: {', '.join(sorted(missing))}.")
    return pattern.sub(
        lambda m: f"<!-- made: {m[1]} -->\n\n{parts[m[1]].strip()}\n\n<!-- end -->", page
    )
