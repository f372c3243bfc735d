import base64
import io

from PIL import Image

from fastreid_uda.report.thumbnails import Thumbnails


def test_thumbnails__small_pictures_inside_the_page(tmp_path):
    Image.new("RGB", (300, 600), (200, 30, 30)).save(tmp_path / "ä <&.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    paths = [str(tmp_path / "ä <&.png"), str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg")]
    pictures = Thumbnails(paths)
    pictures.make([0, 0, 1, 2, 9])
    header, _, data = pictures.uri(0).partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert header == "data:image/jpeg;base64" and image.size == (56, 112)
    assert all(abs(a - b) < 6 for a, b in zip(image.getpixel((9, 9)), (200, 30, 30), strict=True))
    assert [pictures.uri(row) for row in (1, 2, 9)] == ["", "", ""]
    (note,) = pictures.notes
    assert "broken.jpg" in note and "--image-root" not in note
    assert note.endswith("replace or remove the file. 1 more cannot be shown.")


def test_thumbnails__relative_paths_begin_at_the_root(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    Image.new("L", (4, 8)).save(tmp_path / "data/a.png")
    for root, found in (("", False), (str(tmp_path), True)):
        pictures = Thumbnails(["data/a.png"], root)
        pictures.make([0])
        assert bool(pictures.uri(0)) == found
        assert found or "or give --image-root" in pictures.notes[0]
    pictures = Thumbnails(["data/../gone.png"], str(tmp_path))
    pictures.make([0])
    assert f"{tmp_path}/data/../gone.png" in pictures.notes[0]
    assert f"here and in --image-root {tmp_path}." in pictures.notes[0]


def test_thumbnails__without_a_list_of_images():
    pictures = Thumbnails(None)
    pictures.make([0, 1])
    assert pictures.uri(0) == "" and pictures.path(0) == "" and pictures.notes == []
