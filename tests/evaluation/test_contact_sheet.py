"""Contact sheets: where things are, and odd images and words."""

import numpy as np
import pytest
from PIL import Image

from fastreid_uda.evaluation import contact_sheet as module
from fastreid_uda.evaluation.contact_sheet import SheetRow, Tile, contact_sheet, fit_text

RED, GREEN = (255, 0, 0), (0, 255, 0)


def plain(color, size=(10, 20)):
    return Image.new("RGB", size, color)


def where(sheet, color):
    """(left, top, right, bottom) of the pixels of a colour."""
    rows, columns = np.nonzero((np.asarray(sheet) == color).all(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(
    "size,shown",
    [((10, 20), (40, 80)), ((30, 10), (40, 13)), ((1, 9), (9, 80)), ((900, 1), (40, 1))],
)
def test_contact_sheet__images_are_scaled_into_their_tile_and_centred(size, shown):
    sheet = contact_sheet([SheetRow([Tile(plain(RED, size))])], tile_size=(40, 80))
    left, top, right, bottom = where(sheet, RED)
    assert (right - left, bottom - top) == shown
    tile = module._MARGIN + module._FRAME
    assert abs((left + right) / 2 - (tile + 20)) <= 0.5
    assert abs((top + bottom) / 2 - (tile + 40)) <= 0.5


def test_contact_sheet__the_lead_is_left_and_lines_are_filled_in_order():
    tiles = [Tile(plain((0, 0, 10 * n + 10))) for n in range(5)]
    sheet = contact_sheet([SheetRow(tiles, Tile(plain(RED), frame="#00ff00"))], columns=2)
    places = [where(sheet, (0, 0, 10 * n + 10)) for n in range(5)]
    assert [x for x, *_ in places[::2]] == [places[0][0]] * 3
    assert [y for _, y, *_ in places[::2]] == sorted({y for _, y, *_ in places})
    assert where(sheet, RED)[2] < places[0][0]
    frame, lead = where(sheet, GREEN), where(sheet, RED)
    assert np.array_equal(np.array(frame) - lead, np.array([-3, -3, 3, 3]))


def test_contact_sheet__what_cannot_be_read_is_a_gray_tile(tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    plain(RED).save(tmp_path / "good.png")
    paths = [str(tmp_path / name) for name in ("bad.jpg", "gone.jpg", "good.png")]
    sheet = contact_sheet([SheetRow([Tile(path, ("caption",)) for path in paths])])
    assert where(sheet, RED)


def test_contact_sheet__without_rows_and_with_too_many(monkeypatch):
    assert contact_sheet([]).size[1] < 100
    monkeypatch.setattr(module, "MAX_SIDE", 700)
    rows = [SheetRow([Tile(plain(RED))], title=str(n)) for n in range(9)]
    assert 250 < contact_sheet(rows).size[1] <= 700


def test_fit_text__keeps_the_end_and_never_gets_wider():
    name = "a_very_long_name_of_a_camera/2024-05-01_00017.jpg"
    for width in range(40, 400, 7):
        text = fit_text(name, width)
        assert module._font().getlength(text) <= width
        assert text == name or (text.endswith(name[-1]) and "…" in text)
    assert fit_text(name, 1000) == name


@pytest.mark.parametrize(
    "text,shown",
    [("Straße", "Straße"), ("камера", "камера"), ("入口 1", "\ufffd\ufffd 1"),
     ("a\nb\t", "a\ufffdb\ufffd"), ("\udce9.jpg", "\ufffd.jpg"), ("é", "é"), ("", "")],
)  # fmt: skip
def test_fit_text__characters_without_a_glyph_are_marked(text, shown):
    assert fit_text(text, 500) == shown
