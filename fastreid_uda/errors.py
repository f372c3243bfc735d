"""The one exception for mistakes that the user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong key, file or array; the message is one sentence that names it and says what to do.

    The command line tools print the sentence without a traceback and exit with code 2.
    """
