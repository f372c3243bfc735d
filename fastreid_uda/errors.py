"""The one exception for mistakes that the user can mend."""

from __future__ import annotations

import errno
import re

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(ValueError):
    """A wrong key, file or array; the message is one sentence that names it and says what to do.

    The command line tools print the sentence without a traceback and exit with code 2.
    """


def sentence(error: BaseException) -> str | None:
    """The sentence of a `UserError` or of a full disk, also of one passed on by another process.

    torch re-raises the exception of a loader's worker or of a spawned process with that process's
    traceback as its message; the last line of it is "fastreid_uda...<class>: <sentence>".

    Returns:
        None if the error is not the user's.
    """
    last = (str(error).strip().splitlines() or [""])[-1]
    passed_on = re.match(r"fastreid_uda[\w.]*\.(UserError|LabelingCollapse): (.+)", last)
    if passed_on:
        return passed_on[2]
    if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
        return (
            f"{error.filename or 'A file'} cannot be written ({error.strerror}); free some space, "
            "and continue a run with --resume."
        )
    return last if isinstance(error, UserError) else None
