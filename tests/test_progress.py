import logging

import pytest

from fastreid_uda import progress
from fastreid_uda.progress import Progress, show_on_stderr


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, in a list that tests change."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_progress__speaks_every_so_often(clock, caplog):
    caplog.set_level("INFO")
    progress = Progress("Sorting", total=8, every=20)
    for _ in range(8):
        clock[0] += 15
        progress.add(1)
    # After 30, 60, 90 seconds; at 120 it is done and needs no line.
    assert caplog.messages == [
        "Sorting: 25 % after 0:30 min, about 1:30 min to go.",
        "Sorting: 50 % after 1:00 min, about 1:00 min to go.",
        "Sorting: 75 % after 1:30 min, about 0:30 min to go.",
    ]


def test_progress__of_a_short_task_is_silent(clock, caplog):
    caplog.set_level("INFO")
    progress = Progress("Sorting", total=2)
    progress.add(1)
    progress.add(1)
    assert caplog.messages == []


def test_show_on_stderr__shows_progress_and_no_other_info(monkeypatch):
    for name in ("fastreid_uda.progress", "fastreid_uda.memory", "fastreid_uda.compiled"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    show_on_stderr()
    for name in ("progress", "memory", "compiled"):
        assert logging.getLogger(f"fastreid_uda.{name}").isEnabledFor(logging.INFO)
