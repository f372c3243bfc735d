"""Temporary folders: whole or not there, and what killed processes leave."""

import os

import pytest

from fastreid_uda.folders import is_being_written, temporary_folder, temporary_folders


def test_temporary_folder__is_locked_while_its_process_lives(tmp_path):
    path = str(tmp_path / "out [1]")
    with temporary_folder(path) as folder:
        fork = os.fork()
        if not fork:  # killed in the middle
            with temporary_folder(path):
                os.kill(os.getpid(), 9)
        os.waitpid(fork, 0)
        (dead,) = set(temporary_folders(path)) - {folder}
        assert is_being_written(folder) and not is_being_written(dead)
        with temporary_folder(path) as another:
            assert temporary_folders(path) == sorted([folder, another])
            os.rename(another, path)
        assert os.path.isdir(folder)
        os.rmdir(folder)
    assert os.listdir(tmp_path) == ["out [1]"]


def test_temporary_folder__is_removed_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), temporary_folder(str(tmp_path / "out")) as folder:
        open(os.path.join(folder, "file"), "w").close()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_temporary_folders__are_those_of_this_name_alone(tmp_path):
    for name in (".out.abcdefgh.tmp", ".out.abcdefgh.tmp.old", ".outer.abcdefgh.tmp", ".out.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.ijklmnop.tmp").touch()  # a file of `atomic_write`
    path = str(tmp_path / "out")
    assert temporary_folders(path) == [str(tmp_path / ".out.abcdefgh.tmp")]
    assert temporary_folders(path, ".old") == [str(tmp_path / ".out.abcdefgh.tmp.old")]
