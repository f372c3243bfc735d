"""The CSV of PersonFolder."""

import pytest

from fastreid_uda.data.folder_table import FolderTable
from fastreid_uda.errors import UserError


@pytest.fixture
def table(tmp_path):
    def write(content):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return FolderTable(str(path))

    return write


@pytest.mark.parametrize(
    "content,sentence",
    [
        ("", "has the columns none, but it needs path"),
        ("file,cam\na,1\n", "has the columns file, cam, but it needs path"),
        ("path\na\n", "at least one of camera and identity"),
        ("path;camera\na;1\n", "separated by semicolons; save it separated by commas"),
        ("path\tcamera\na\t1\n", "separated by tabs"),
        ("path,camera,camera\na,1,2\n", "has a column twice"),
        ("path,camera\na,1\nb,2\n./a,1\n", r"t\.csv, line 4: the path './a' is there twice"),
        (b"path,camera\n\xff\xfe,1\n", "cannot be read as a table in UTF-8"),
    ],
)
def test_mistakes__are_explained(table, content, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        table(content).facts("crops", "a")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["/nowhere.csv", "/"])
def test_no_file__is_named(path):
    with pytest.raises(UserError, match=f"DATASETS.FOLDER.CSV is '{path}'"):
        FolderTable(path)


def test_cells__without_blanks_and_empty_ones_are_unknown(table):
    read = table("\ufeffpath, camera ,identity\na, 1 ,\nb,1,-3\nc,,x\nd\n")
    assert [read.facts("crops", name) for name in "abcd"] == [
        (None, "1"), ("-3", "1"), ("x", None), (None, None),
    ]  # fmt: skip


def test_one_table_for_three_folders__by_paths_from_its_own_folder(table, tmp_path):
    read = table(f"path,camera\ntrain/a,1\nquery/a,2\n{tmp_path}/gallery/a,3\n")
    folders = [str(tmp_path / name) for name in ("train", "query", "gallery")]
    assert [read.facts(folder, "a")[1] for folder in folders] == ["1", "2", "3"]


def test_one_row_for_two_images__is_refused(table, tmp_path):
    read = table("path,camera\na,1\n")
    assert read.facts(str(tmp_path / "query"), "a") == (None, "1")
    assert read.facts(str(tmp_path / "query"), "a") == (None, "1")
    with pytest.raises(UserError, match=r"the path a stands for .*query/a and for .*gallery/a"):
        read.facts(str(tmp_path / "gallery"), "a")


def test_folder_inside_another__has_its_rows_too(table, tmp_path):
    read = table("path,camera\nquery/a,2\n")
    assert read.facts(str(tmp_path), "query/a") == read.facts(str(tmp_path / "query"), "a")
