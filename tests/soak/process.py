"""tools/train_net.py in a process that is forked from this one, so that it starts in no time."""

import json
import mmap
import os
import runpy
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import ROOT
from tests.soak.moments import Moments

LIMIT = 600
"""Seconds after which a run hangs."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        killed: by SIGKILL, else it came to its end.
        moment: name of the last moment that it passed.
        number: of that moment, from 1.
        epoch: it was in.
        counts: how often each moment was passed.
        seconds: it took.
        console: what it wrote to stdout and stderr.
    """

    killed: bool
    moment: str
    number: int
    epoch: int
    counts: dict
    seconds: float
    console: str


def train_net(arguments, console, kill_at=None, kill_after=None):
    """Run the tool and wait for it.

    Args:
        arguments: of the command line.
        console: file for its stdout and stderr.
        kill_at: (name, number) of the moment at which it kills itself.
        kill_after: seconds after which it is killed from outside.

    Raises:
        RuntimeError: it failed, or took longer than `LIMIT`.
    """
    board = mmap.mmap(-1, 1 << 14)
    sys.stdout.flush()
    start = time.monotonic()
    child = os.fork()
    if not child:
        os._exit(_as_child(arguments, console, Moments(board, kill_at)))
    code = _wait(child, kill_after if kill_after is not None else LIMIT)
    seconds, text = time.monotonic() - start, Path(console).read_text()
    if code not in (0, -signal.SIGKILL) or seconds >= LIMIT:
        raise RuntimeError(f"exit {code} after {seconds:.0f} s: {arguments}\n{text[-4000:]}")
    last = json.loads(board[:].split(b"\n")[0].strip(b"\0") or b'{"moment": "start/imports"}')
    return Outcome(
        killed=code != 0,
        moment=last["moment"],
        number=last.get("number", 0),
        epoch=last.get("epoch", 0),
        counts=last.get("counts", {}),
        seconds=seconds,
        console=text,
    )


def _wait(child, kill_after):
    deadline = time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.01)


def _as_child(arguments, console, moments):
    with open(console, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    code = 1
    try:
        moments.install()
        tool = str(ROOT / "tools/train_net.py")
        sys.argv = [tool, *arguments]
        runpy.run_path(tool, run_name="__main__")
        moments.end()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    return code
