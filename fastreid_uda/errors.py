"""The one exception for mistakes that the user can mend."""

from __future__ import annotations

import re


class UserError(ValueError):
    """A wrong key, file or array; the message is one sentence that names it and says what to do.

    The command line tools print the sentence without a traceback and exit with code 2.
    """


def sentence(error: BaseException) -> str | None:
    """The sentence of a `UserError`, also of one that another process has passed on.

    torch re-raises the exception of a loader's worker or of a spawned process with that process's
    traceback as its message; the last line of it is "fastreid_uda...<class>: <sentence>".

    Returns:
        None if the error is not the user's.
    """
    last = (str(error).strip().splitlines() or [""])[-1]
    passed_on = re.match(r"fastreid_uda[\w.]*\.(UserError|LabelingCollapse): (.+)", last)
    if passed_on:
        return passed_on[2]
    return last if isinstance(error, UserError) else None
