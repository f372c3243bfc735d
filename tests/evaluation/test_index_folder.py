"""What is replaced, what is refused, and what killed processes leave."""

import json
import os
import signal
import subprocess
import sys

import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.evaluation import index_folder
from fastreid_uda.evaluation.index_folder import (
    FACT_KEYS,
    check_index_folder,
    new_folder,
    recover_folder,
)


def write(folder, text="new"):
    with new_folder(str(folder)) as new:
        (new / "index.json").write_text(json.dumps(dict.fromkeys(FACT_KEYS)))
        (new / "index.csv").write_text(text)


def text_of(folder):
    return (folder / "index.csv").read_text()


def names(folder):
    return sorted(os.listdir(folder))


def test_check_index_folder__what_cannot_be_an_index(tmp_path):
    check_index_folder("--out", str(tmp_path / "a/b"))
    (tmp_path / "empty").mkdir()
    check_index_folder("--out", str(tmp_path / "empty"))
    write(tmp_path / "index")
    check_index_folder("--out", str(tmp_path / "index"))
    file = tmp_path / "model.pth"
    file.write_text("")
    for path, reason in (("", "empty"), (file, "is a file"), (tmp_path, "other things.*.empty.")):
        with pytest.raises(UserError, match=f"--out is .*{reason}"):
            check_index_folder("--out", str(path))
    with pytest.raises(UserError, match="not writable"):
        check_index_folder("--out", f"{file}/below")


@pytest.mark.parametrize(
    "files,named",
    [({"index.json": "{}"}, "index.json of something else"),
     ({"index.json": "["}, "index.json of something else"),
     ({"index.json": "[]", "src/a.py": ""}, "src"),
     ({"features.npz": ""}, "features.npz without index.json"),
     ({"index.json/a": ""}, "index.json")],
)  # fmt: skip
def test_check_index_folder__a_folder_of_something_else(files, named, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"other things than an index .(an )?{named}.;"):
        check_index_folder("--out", str(tmp_path))


def test_new_folder__keeps_what_came_meanwhile(tmp_path):
    index = tmp_path / "index"
    write(index, "old")
    (index / "sheet.png").write_text("mine")
    with pytest.raises(UserError, match=r"other things than an index .sheet.png"):
        check_index_folder("--out", str(index))
    with pytest.raises(UserError, match=r"come to hold .*sheet.png"):
        write(index)
    assert names(index) == ["index.csv", "index.json", "sheet.png"] and text_of(index) == "old"
    assert names(tmp_path) == ["index"]


def test_new_folder__behind_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "index").symlink_to(tmp_path / "disk/index")
    for text in ("first", "second"):  # the link leads nowhere yet, and to an index
        check_index_folder("--out", str(tmp_path / "index"))
        write(tmp_path / "index", text)
        assert (tmp_path / "index").is_symlink() and text_of(tmp_path / "disk/index") == text
    assert names(tmp_path / "disk") == ["index"]


def test_new_folder__that_cannot_take_its_place_gives_the_old_one_back(tmp_path, monkeypatch):
    write(tmp_path / "index", "old")
    rename, calls = os.rename, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(index_folder.os, "rename", second_fails)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "index")
    assert text_of(tmp_path / "index") == "old" and names(tmp_path) == ["index"]


KILLED = """
import os, signal, sys, time
from fastreid_uda.evaluation import index_folder
folder, at = sys.argv[1:]
rename, calls = os.rename, []
def killed(source, target):
    calls.append(target)
    if len(calls) == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
index_folder.os.rename = killed
with index_folder.new_folder(folder) as new:
    (new / "features.npz").write_text("")
    (new / ".weights.pth.abcd1234.tmp").write_text("")
    if at == "0":
        print("writing", flush=True)
        time.sleep(100)
"""


@pytest.mark.parametrize("at", [1, 2])
def test_new_folder__killed_at_either_rename(at, tmp_path):
    index = tmp_path / "ind[ex"
    write(index, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, index, str(at)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert index.exists() == (at == 1) and len(names(tmp_path)) == 2
    (tmp_path / ".ind[ex2.abcd1234.tmp").mkdir()  # of another index
    recover_folder(str(index))
    assert text_of(index) == "old"
    write(index)
    assert text_of(index) == "new" and names(tmp_path) == [".ind[ex2.abcd1234.tmp", "ind[ex"]


def test_new_folder__leaves_that_of_a_live_process(tmp_path):
    index = tmp_path / "index"
    words = [sys.executable, "-c", KILLED, index, "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "writing\n"
        write(index)
        assert len(names(tmp_path)) == 2
        other.kill()
    write(index)
    assert names(tmp_path) == ["index"]


def test_recover_folder__not_of_one_that_was_replaced(tmp_path):
    """The process has died while it deleted the older index, and the user has moved the new one."""
    write(tmp_path / ".index.abcd1234.tmp.old", "old")
    recover_folder(str(tmp_path / "index"))
    assert not (tmp_path / "index").exists()
    write(tmp_path / "index")
    assert names(tmp_path) == ["index"]
