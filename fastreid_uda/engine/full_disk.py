"""A full disk ends a run with one sentence, whichever of its files cannot be written."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import sentence


def end_run_if_log_fails(output_dir: str) -> None:
    """Let a line that cannot be written to log.txt raise; Python prints a traceback for each one.

    Args:
        output_dir: named in the error.
    """

    def raise_or_print(handler: logging.Handler, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            logging.Handler.handleError(handler, record)
            return
        error.filename = output_dir
        raise error

    for name in ("fastreid", "fastreid_uda"):
        for handler in logging.getLogger(name).handlers:
            handler.handleError = raise_or_print.__get__(handler)  # type: ignore[method-assign]


@contextmanager
def named_full_disk(output_dir: str) -> Iterator[None]:
    """Let errors of files without a name, as those of fast-reid's writers, name their folder.

    TensorBoard writes in a thread, whose traceback is kept from the terminal: the run ends with the
    same error at its next write.
    """
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _report_thread  # stays, as the thread may end after the block
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = output_dir
        raise


def _report_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or sentence(args.exc_value) is None:
        threading.__excepthook__(args)
