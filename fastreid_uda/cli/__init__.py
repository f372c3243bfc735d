"""The command `fastreid-uda`: every tool by its name. The scripts in tools/ are the same commands.

A command is a module with `parse_arguments(arguments)` and `main(arguments)`, which returns the
exit code. It is imported when it is called, so that a list of the commands costs nothing.
"""

from __future__ import annotations

import importlib
import os
import sys

from .. import __version__

PROGRAM = "fastreid-uda"

COMMANDS = {
    "train": "train on a source, adapt to a target, evaluate",
    "report": "one HTML page of what the labels of a run do",
    "extract": "features and an index of a folder of images",
    "search": "the matches of a query image in such an index",
    "export": "a network for fast-reid, ONNX or TorchScript",
    "label": "one labeling round on saved features",
    "scan-eps": "which eps suits a target, without labels",
    "rank": "scores of saved query and gallery features",
    "plot-uncertainty": "uncertainty of right and wrong labels",
    "configs": "list the shipped configs, or copy them",
}
"""Name -> what it does; the module has the name with `_` for `-`."""


def help_text() -> str:
    """What `fastreid-uda --help` shows."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            "Adapt person and vehicle re-identification networks to cameras without labels.",
            "",
            *lines,
            "",
            f"  {PROGRAM} COMMAND --help  says more; {PROGRAM} --version  says {__version__}",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command that is named first; the exit code.

    Args:
        arguments: the words after the program's name; None: those of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["help"] and words[1:]:
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"{PROGRAM} {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"error: there is no command {name!r}; the commands are: {known}.", file=sys.stderr)
        return 2
    sys.argv[0] = f"{PROGRAM} {name}"  # the name in usage lines
    return run_command(name, words[1:])


def run_command(name: str, arguments: list[str] | None = None) -> int:
    """Run one command; the exit code.

    Args:
        name: one of `COMMANDS`.
        arguments: the words after its name; None: those of this process.
    """
    # Threads that wait for others sleep instead of spinning: 8 % slower on an idle machine (two
    # cores), three times faster on one that is shared with another job. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    code: int = module.main(arguments)
    return code
