"""What the comments beside the fields of a dataclass say of them."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize


def field_meanings(cls: type) -> dict[str, str]:
    """Field -> the lines of comment right above it and the comment behind it, joined.

    Only annotated names with a value count, and no class variables: the arguments of the
    constructor. A field without a comment has the meaning "".
    """
    source = textwrap.dedent(inspect.getsource(cls))
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    comments, lines = _comments(source), source.splitlines()
    meanings = {}
    for node in definition.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.value is None or "ClassVar" in ast.unparse(node.annotation):
            continue
        parts: list[str] = []
        line = node.lineno - 1
        while line in comments and lines[line - 1].lstrip().startswith("#"):
            parts.insert(0, comments[line])
            line -= 1
        parts.append(comments.get(node.end_lineno or node.lineno, ""))
        meanings[node.target.id] = " ".join(filter(None, parts))
    return meanings


def _comments(source: str) -> dict[int, str]:
    """Line number, from 1 -> its comment, without #."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT
    }
