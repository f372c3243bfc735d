from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastreid_uda.evaluation.ranking import evaluate_ranking
from fastreid_uda.evaluation.reranking import reranked_distances

from . import make_people

TOOL = Path(__file__).resolve().parents[2] / "tools" / "rank_features.py"
KEYS = ["Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"]


def run_tool(*arguments, cwd=None):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


def sides_of(people):
    """The arrays of the query file and of the gallery file."""
    names = ["features", "identities", "camera_ids"]
    return [dict(zip(names, people[side::2], strict=True)) for side in (0, 1)]


@pytest.fixture
def files(tmp_path):
    """Good query and gallery files, in a folder other than the repository."""
    paths = tmp_path / "query.npz", tmp_path / "gallery.npz"
    for path, arrays in zip(paths, sides_of(make_people()), strict=True):
        np.savez(path, **arrays)
    return paths


def test_rank_features__prints_one_json_line(files, tmp_path):
    done = run_tool("query.npz", "gallery.npz", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert all(line.startswith("Compiling kernels") for line in done.stderr.splitlines())
    figures = json.loads(done.stdout)
    assert list(figures) == [*KEYS, "queries", "valid_queries", "seconds", "peak_rss_mb"]
    expected = evaluate_ranking(*make_people())
    assert {key: figures[key] for key in KEYS} == expected.percentages()
    assert (figures["queries"], figures["valid_queries"]) == (40, expected.num_valid_queries)
    assert 0 <= figures["seconds"] < 60 and 5 < figures["peak_rss_mb"] < 1000


def test_rank_features__zero_rows_are_said_for_each_file(files):
    for path, zero in zip(files, (40, 3), strict=True):
        arrays = dict(np.load(path))
        arrays["features"][:zero] = 0
        np.savez(path, **arrays)
    done = run_tool(*files)
    assert done.returncode == 0 and "Rank-1" in json.loads(done.stdout)
    for path, share in zip(files, ("40 of 40", "3 of 150"), strict=True):
        assert f"{path}: {share} rows of 'features' are zero" in done.stderr


def test_rank_features__reranks(files):
    options = ["--rerank", "--metric", "euclidean", "--k1", 9, "--k2", 3, "--lambda", 0.1]
    figures = json.loads(run_tool(*files, *options).stdout)
    people = make_people()
    distances = reranked_distances(*people[:2], metric="euclidean", k1=9, k2=3, lambda_value=0.1)
    expected = evaluate_ranking(*people, distances=distances).percentages()
    assert {key: figures[key] for key in KEYS} == expected


def test_rank_features__loads_no_framework(files):
    program = (
        "import contextlib, runpy, sys; tool, *sys.argv[1:] = sys.argv[1:]\n"
        "with contextlib.suppress(SystemExit): runpy.run_path(tool, run_name='__main__')\n"
        "print(sorted({'torch', 'fastreid', 'sklearn', 'scipy.sparse'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, TOOL, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_rank_features__help_fits_a_screen_and_says_defaults():
    text = run_tool("--help").stdout
    assert len(text.splitlines()) <= 40
    for option, default in (("--metric", "cosine"), ("--k1", 20), ("--k2", 6), ("--lambda", 0.3)):
        # The last mention is the entry in the list of options.
        entry = " ".join(text[text.rindex(f"  {option} ") :].split())
        assert re.search(rf"\(default: {default}\)", entry.split(" --", 1)[0] + entry), option


def drop(name):
    return lambda arrays: {key: values for key, values in arrays.items() if key != name}


def replace(name, change):
    return lambda arrays: {**arrays, name: change(arrays[name])}


def with_nan(features):
    return np.where(np.arange(len(features))[:, None] == 3, np.nan, features)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("features"), ["gallery.npz", "'features' is missing"]),
        (drop("camera_ids"), ["gallery.npz", "'camera_ids' is missing"]),
        (replace("features", with_nan), ["gallery.npz", "1 of 150 rows of 'features'", "NaN"]),
        (replace("features", lambda f: f[:, :3]), ["16", "3 in", "gallery.npz", "'features'"]),
        (replace("features", lambda f: f.astype(int)), ["gallery.npz", "'features' is int64"]),
        (replace("features", lambda f: f[0]), ["gallery.npz", "'features'", "shape (16,)"]),
        (replace("features", lambda f: f[:, :0]), ["gallery.npz", "'features' is empty"]),
        (replace("features", lambda f: f.astype(object)), ["gallery.npz", "'features'", "objects"]),
        (
            replace("features", lambda f: f * np.float64(1e300)),
            ["gallery.npz", "rows of 'features'"],
        ),
        (replace("identities", lambda i: i.astype(str)), ["gallery.npz", "'identities' is <U"]),
        (replace("identities", lambda i: i * 1.0), ["gallery.npz", "'identities' is float64"]),
        (replace("camera_ids", lambda c: c[1:]), ["gallery.npz", "'camera_ids' has 149 entries"]),
        (replace("camera_ids", lambda c: c[:, None]), ["gallery.npz", "shape (150, 1)"]),
        (replace("identities", lambda i: i + 1000), ["No query identity occurs in the gallery"]),
    ],
)
def test_rank_features__bad_array(files, change, words):
    np.savez(files[1], **change(sides_of(make_people())[1]))
    assert_one_sentence(run_tool(*files), words)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.unlink(), ["no such file"]),
        (lambda path: (path.unlink(), path.mkdir()), ["a folder"]),
        (lambda path: path.write_text("hello"), ["not an .npz file"]),
        (lambda path: path.write_bytes(b""), ["not an .npz file"]),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), ["not an .npz file"]),
        (lambda path: np.save(path.open("wb"), np.ones(3)), ["a single array"]),
    ],
)
def test_rank_features__bad_file(files, write, words):
    write(files[0])
    assert_one_sentence(run_tool(*files), ["query.npz", *words])


def test_rank_features__damaged_array(files):
    content = bytearray(files[0].read_bytes())
    content[400] ^= 255  # inside the first array; the zip checksum notices
    files[0].write_bytes(content)
    assert_one_sentence(run_tool(*files), ["query.npz", "'features' is damaged"])


def test_rank_features__never_unpickles(files, tmp_path):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    arrays = sides_of(make_people())[0]
    arrays["identities"] = np.array([Payload()] * 40, dtype=object)
    np.savez(files[0], allow_pickle=True, **arrays)
    assert_one_sentence(run_tool(*files), ["query.npz", "'identities'", "objects"])
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("option", [("--k1", 0), ("--lambda", 2)])
def test_rank_features__bad_option(files, option):
    assert_one_sentence(run_tool(*files, "--rerank", *option), [str(option[1])])


def assert_one_sentence(done, words):
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
