"""A disk that is full: the last good checkpoint stays, and there is one sentence."""

import errno
import logging
import os
import resource
import tempfile
import threading
from contextlib import contextmanager

import pytest

from fastreid_uda.engine.checkpointing import load_checkpoint, save_checkpoint
from fastreid_uda.engine.full_disk import end_run_if_log_fails, named_full_disk
from fastreid_uda.engine.summary import RunSummary
from fastreid_uda.errors import UserError, sentence
from fastreid_uda.files import atomic_write
from tests.engine.training import make_trainer

FULL = "/dev/full"  # every write to it fails with ENOSPC
needs_dev_full = pytest.mark.skipif(not os.path.exists(FULL), reason="of Linux")


@contextmanager
def files_up_to(size):
    """No file of this process can grow beyond `size` bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def full_disk(monkeypatch):
    """What `atomic_write` writes to is full."""
    monkeypatch.setattr(
        tempfile, "mkstemp", lambda **_: (os.open(FULL, os.O_WRONLY), "/tmp/never_there")
    )
    monkeypatch.setattr(os, "fsync", lambda _: None)


def the_sentence(error):
    text = sentence(error)
    assert text is not None and "\n" not in text
    return text


@pytest.mark.parametrize("size", [100, 50_000, 100_000])
def test_checkpoint__the_last_good_one_stays_and_the_run_goes_on(stopped_run, out, size):
    trainer = make_trainer(stopped_run)
    assert trainer.resume()
    before = {name: (out / name).read_bytes() for name in ("model_last.pth", "model_previous.pth")}
    with files_up_to(size), pytest.raises(UserError) as raised:
        trainer.save("model_last.pth")
    text = the_sentence(raised.value)
    assert "model_last.pth cannot be written (File too large)" in text and "--resume" in text
    assert before == {name: (out / name).read_bytes() for name in before}
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]
    trainer.save("model_last.pth")
    assert load_checkpoint(str(out / "model_last.pth"))["epoch"] == 2
    assert (out / "model_previous.pth").read_bytes() == before["model_last.pth"]


def test_run__a_full_disk_in_the_middle_ends_it_and_resume_ends_as_it_would_have(stopped_run, out):
    trainer = make_trainer(stopped_run)
    trainer.resume()
    with files_up_to(50_000), pytest.raises(UserError, match="cannot be written"):
        trainer.train()
    second = make_trainer(stopped_run)
    assert second.resume() and second.start_epoch == 3
    second.train()
    assert (out / "model_final.pth").exists()


@needs_dev_full
def test_small_files__the_sentence_names_them(tmp_path, full_disk):
    with pytest.raises(OSError) as raised, atomic_write(str(tmp_path / "labels/x.npz")) as file:
        file.write(b"x")
    assert the_sentence(raised.value).startswith(f"{tmp_path}/labels/x.npz cannot be written (No ")
    with pytest.raises(OSError) as raised:
        RunSummary(str(tmp_path / "summary.json"), {}).update(method="x")
    assert "summary.json cannot be written (No space left on device)" in the_sentence(raised.value)
    with pytest.raises(UserError, match=r"m\.pth cannot be written \(No space left on device\)"):
        save_checkpoint(str(tmp_path / "m.pth"), {"a": 1})


@needs_dev_full
@pytest.mark.parametrize("file", ["metrics.json", "events"])
def test_scalars__of_a_run_that_cannot_be_written_end_it(market, monkeypatch, file):
    out = market / "out"
    out.mkdir()
    if file == "metrics.json":
        (out / file).symlink_to(FULL)
    else:
        writer = pytest.importorskip("tensorboard.summary.writer.record_writer").RecordWriter
        monkeypatch.setattr(writer, "flush", lambda _: raise_full())
    with pytest.raises(OSError) as raised, named_full_disk(str(out)):
        trainer = make_trainer(market, supervised=True)
        trainer.train()
    assert the_sentence(raised.value).startswith(f"{out} cannot be written (No space left")


def raise_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@needs_dev_full
def test_log__raises_instead_of_printing_tracebacks(monkeypatch, capsys):
    logger = logging.getLogger("fastreid_uda")
    stream = open(FULL, "w")  # noqa: SIM115  closing it fails
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(stream)])
    monkeypatch.setattr(logger, "propagate", False)
    end_run_if_log_fails("logs/x")
    with pytest.raises(OSError) as raised:
        logger.warning("a line")
    assert the_sentence(raised.value).startswith("logs/x cannot be written (No space left")
    assert capsys.readouterr().err == ""
    logger.warning("a line with %d", "a mistake of ours")
    assert "Logging error" in capsys.readouterr().err
    with pytest.raises(OSError):
        stream.close()


def test_thread_of_tensorboard__is_silent_about_a_full_disk_alone(monkeypatch, capsys):
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    with named_full_disk("logs/x"):
        for target in (raise_full, lambda: 1 / 0):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error and "No space" not in error


def test_sentence__other_errors_of_the_system_are_not_the_users():
    assert sentence(OSError(errno.EIO, "Input/output error")) is None
    assert sentence(ValueError("x")) is None
