"""How a command ends: with an exit code, and one sentence where the user can mend what is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..errors import sentence

INTERRUPTED, CLOSED_PIPE = 130, 141
"""The exit codes after Ctrl-C and when nobody reads on, as in `| head`; as shells have them."""


def exit_code(run: Callable[[], object], interrupted: str = "Interrupted.") -> int:
    """Call and translate: 0, or 2 after the sentence of a `UserError` or of a full disk.

    Args:
        run: the whole command.
        interrupted: what is said after Ctrl-C.

    Raises:
        Exception: whatever is not the user's to mend, with its traceback.
    """
    try:
        run()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return CLOSED_PIPE
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        # Without fast-reid its import says how to install it (`compat.NOT_INSTALLED`).
        missing = isinstance(error, ModuleNotFoundError) and error.name == "fastreid"
        text = str(error) if missing else sentence(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 2
    return 0
