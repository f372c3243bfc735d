"""The tools as processes of their own, without the seconds that their imports take.

One server per worker of pytest imports what the tools import; every process is a fork of it, with
arguments, environment, output, exit code and memory of its own.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["fastreid_uda.plugin", "fastreid_uda.engine.stages", "fastreid_uda.engine.defaults",
     "fastreid_uda.engine.checks", "torch.utils.tensorboard", "tests.processes"]
)  # fmt: skip


def start(arguments, output, **environment):
    """Start a tool in the root of the repository.

    Args:
        arguments: the words of the command line, the tool first.
        output: a folder for the files `stdout` and `stderr`; made if need be.
        environment: variables beside those of this process.

    Returns:
        A `multiprocessing.Process`.
    """
    words = list(map(str, arguments))
    os.makedirs(output, exist_ok=True)
    process = context.Process(
        target=_be_the_tool, args=(words, os.environ | environment, str(output))
    )
    process.start()
    return process


def run(arguments, timeout, **environment):
    """Run a tool to its end; a `subprocess.CompletedProcess` with its output as text."""
    with tempfile.TemporaryDirectory() as output:
        process = start(arguments, output, **environment)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        texts = [Path(output, name).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def run_fresh(arguments, timeout, **environment):
    """As `run`, in a new interpreter."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=os.environ | environment, cwd=ROOT,
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def _be_the_tool(words, environment, output):
    assert threading.active_count() == 1
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(os.path.join(output, name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
