import pytest
from PIL import Image

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.data.datasets.person_folder import PersonFolder
from fastreid_uda.data.image_list import make_image_list
from fastreid_uda.errors import UserError

PATTERN = r"(?P<identity>\d+)_c(?P<camera>\d+)"


@pytest.fixture
def folder(tmp_path):
    for name in ("cam a/0002_c3_x.jpg", "cam a/0001_c1_é.JPG", "b/0001_c3.png", "b/notes.txt"):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8)).save(path) if path.suffix != ".txt" else path.write_text("x")
    return tmp_path / "train"


def test_pattern__gives_cameras_and_identities(folder):
    images = make_image_list(PersonFolder(str(folder), pattern=PATTERN).train, "folder")
    assert [path.rsplit("/", 1)[1] for path in images.paths] == [
        "0001_c3.png", "0001_c1_é.JPG", "0002_c3_x.jpg",
    ]  # fmt: skip
    assert images.camera_ids.tolist() == [1, 0, 1]
    assert images.identities.tolist() == [0, 0, 1]


def test_no_pattern__knows_neither(folder):
    images = make_image_list(PersonFolder(str(folder)).train, "folder")
    assert images.camera_ids is None and images.identities is None


def test_folder_name_as_camera(folder):
    dataset = PersonFolder(str(folder), pattern=r"^(?P<camera>[^/]+)/")
    assert [camera for _, _, camera in dataset.train] == ["b", "cam a", "cam a"]


def test_csv__gives_cameras(folder, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,camera\ncam a/0002_c3_x.jpg,7\ncam a/0001_c1_é.JPG,8\nb/0001_c3.png,7\n")
    images = make_image_list(PersonFolder(str(folder), table=str(table)).train, "folder")
    assert images.camera_ids.tolist() == [0, 1, 0]
    assert images.identities is None


def test_test_items__are_numbered_over_query_and_gallery(folder):
    dataset = PersonFolder(str(folder), str(folder / "cam a"), str(folder / "b"), PATTERN)
    assert [item[1:] for item in dataset.query] == [(0, 0), (1, 1)]
    assert [item[1:] for item in dataset.gallery] == [(0, 1)]


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        ({"train": ""}, r"DATASETS\.FOLDER\.TRAIN is empty"),
        ({"train": "/nowhere"}, "which is not a folder"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": r"(\d+)"}, "must be named camera and identity"),
        ({"pattern": r"(?P<pid>\d+)"}, "must be named camera and identity"),
        ({"pattern": r"(?P<camera>zzz)"}, "does not match DATASETS.FOLDER.PATTERN"),
        ({"table": "/nowhere.csv"}, "cannot be read"),
        ({"pattern": PATTERN, "table": "x.csv"}, "are both set"),
    ],
)
def test_mistakes__are_explained(folder, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        PersonFolder(**({"train": str(folder)} | arguments))


def test_empty_folder__and_csv_without_columns(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        PersonFolder(str(tmp_path / "empty"))
    (tmp_path / "t.csv").write_text("file,cam\na,b\n")
    with pytest.raises(UserError, match="has the columns file, cam, but it needs path"):
        PersonFolder(str(folder), table=str(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("path,camera\nelse.jpg,1\n")
    with pytest.raises(UserError, match="has no row in DATASETS.FOLDER.CSV"):
        PersonFolder(str(folder), table=str(tmp_path / "t.csv"))


def test_query_without_identity__is_refused(folder):
    with pytest.raises(UserError, match="without identity or camera id"):
        PersonFolder(str(folder), str(folder), str(folder), r"c(?P<camera>\d+)")
