"""Ends a test that hangs, with the stack of the place where it did."""

import signal
from contextlib import contextmanager


@contextmanager
def watchdog(seconds=5):
    """Raise in whatever runs longer inside the block."""

    def bark(number, frame):
        raise TimeoutError(f"no end after {seconds} s")

    earlier = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
