"""T11: what a process hears of the others, in threads of this process."""

import threading
import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from fastreid_uda import process_watch
from fastreid_uda.distributed import _that_travels
from fastreid_uda.errors import UserError
from fastreid_uda.process_watch import ProcessWatch


@pytest.fixture
def store(monkeypatch):
    for name, seconds in (("_LOOK", 0.02), ("_GRACE", 0.3), ("_SILENCE", 0.5)):
        monkeypatch.setattr(process_watch, name, seconds)
    return dist.TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=10), wait_for_workers=False)


@pytest.fixture
def stopped(monkeypatch):
    """The messages with which processes would have been ended, and when there is one."""
    messages, there = [], threading.Event()
    monkeypatch.setattr(process_watch, "_stop", lambda m: (messages.append(m), there.set()))
    return messages, there


def connection(store):
    timeout = timedelta(seconds=10)
    return dist.TCPStore("127.0.0.1", store.port, None, False, timeout, wait_for_workers=False)


def test_process_that_waits__is_ended_with_the_message_of_another(store, stopped):
    messages, there = stopped
    with ProcessWatch(connection(store), 1, 2):  # waits in a collective call, as it were
        with pytest.raises(UserError, match="a broken image"), ProcessWatch(store, 0, 2):
            raise UserError("a broken image")
        assert there.wait(5)
    assert messages == ["a broken image"]


def test_two_that_fail__end_with_the_first_message(store, stopped):
    with pytest.raises(UserError, match="no memory"), ProcessWatch(connection(store), 1, 2):
        with pytest.raises(MemoryError), ProcessWatch(store, 0, 2):
            raise MemoryError("no memory")
        raise UserError("another one")


def test_process_without_a_sign_of_life__is_named(store, stopped):
    messages, there = stopped
    with ProcessWatch(store, 0, 3), ProcessWatch(connection(store), 1, 3):
        assert there.wait(5)
    assert "Process 2 has given no sign of life" in messages[0]


def test_processes_that_live__are_left_alone(store, stopped):
    messages, _ = stopped
    with ProcessWatch(store, 0, 2), ProcessWatch(connection(store), 1, 2):
        time.sleep(1)
    assert messages == []


def test_store_that_does_not_answer__ends_the_process(store, stopped):
    class Frozen:
        def add(self, key, number):
            time.sleep(1.5)
            return 0

    messages, there = stopped
    with ProcessWatch(Frozen(), 1, 2):
        assert there.wait(5)
    assert "The main process has not answered" in messages[0]


def test_error_that_cannot_be_sent__is_sent_as_text():
    class LocalError(Exception):
        pass

    sent = _that_travels(LocalError("the true reason"))
    assert type(sent) is RuntimeError and str(sent) == "LocalError: the true reason"
    kept = UserError("as it is")
    assert _that_travels(kept) is kept
