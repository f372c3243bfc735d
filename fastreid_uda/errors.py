"""The one exception for mistakes that the user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong key, file or array; the message is one sentence that names it and says what to do.

    The command line tools print the sentence without a traceback and exit with code 2.
    """


def sentence(error: UserError) -> str:
    """The sentence of an error, also of one that a loader's worker process has passed on.

    torch re-raises a worker's exception with the worker's traceback as its message; the last line
    of that is "<class>: <sentence>".
    """
    last = str(error).strip().splitlines()[-1]
    return last.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
