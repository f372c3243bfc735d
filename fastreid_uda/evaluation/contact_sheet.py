"""Contact sheets: small images in rows, with words below them. Pillow alone."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

FONT_SIZE = 13
_PAPER, _INK, _FAINT = "white", "#202124", "#6b7075"
_EMPTY = "#e8eaed"  # behind an image that does not fill its tile
QUERY_FRAME = "#1a56db"
"""The colour of the frame of a query."""
_GAP, _MARGIN, _FRAME = 8, 12, 3
MAX_SIDE = 30_000
"""JPEG ends at 65,535 pixels; viewers long before."""
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Attributes:
        image: a PIL image or the path of a file; a file that cannot be read shows as a gray tile.
        captions: lines below it; one that is too long loses its middle.
        frame: a colour that Pillow knows, or None.
    """

    image: Any
    captions: tuple[str, ...] = ()
    frame: str | None = None


@dataclass(frozen=True)
class SheetRow:
    """A heading, an image that stands by itself on the left, and the images that belong to it.

    Attributes:
        tiles: from left to right, in several lines if there are more than columns.
        lead: e.g. the query; None: there is none.
        title: a line above; empty: there is none.
    """

    tiles: Sequence[Tile]
    lead: Tile | None = None
    title: str = ""


def contact_sheet(
    rows: Sequence[SheetRow],
    *,
    columns: int = 10,
    tile_size: tuple[int, int] = (112, 224),
    load: Callable[[str], Any] | None = None,
) -> Image.Image:
    """One RGB image of all rows.

    Args:
        rows: from top to bottom; those that would make the sheet higher than `MAX_SIDE` pixels are
            left out, and their number is written below.
        columns: images in a line, without the lead; lines are as long as the longest row needs.
        tile_size: width and height of a tile; images are scaled to fit, never stretched or cut.
        load: path -> PIL RGB image; None: Pillow, with the Exif orientation.
    """
    sheet = _Sheet(rows, columns, tile_size, load or _open)
    return sheet.draw()


class _Sheet:
    """Measures and draws; x and y are pixels from the upper left corner."""

    def __init__(
        self, rows: Sequence[SheetRow], columns: int, tile_size: tuple[int, int], load: Any
    ) -> None:
        self.rows, self.load = list(rows), load
        self.columns = max(1, min(columns, max((len(row.tiles) for row in rows), default=1)))
        self.width, self.height = tile_size
        self.with_lead = any(row.lead for row in rows)
        lines = [len(tile.captions) for row in rows for tile in _tiles_of(row)]
        self.line = _font().getbbox("Ag")[3] + 3
        self.cell = self.height + 2 * _FRAME + max(lines, default=0) * self.line + _GAP

    def draw(self) -> Image.Image:
        """The sheet."""
        heights = [self._height(row) for row in self.rows]
        room, shown = MAX_SIDE - 2 * _MARGIN - self.line, 0
        while shown < len(heights) and sum(heights[: shown + 1]) <= room:
            shown += 1
        left_out = len(heights) - shown
        step = self.width + 2 * _FRAME + _GAP
        width = 2 * _MARGIN + step * (self.columns + self.with_lead) + self._indent()
        height = 2 * _MARGIN + sum(heights[:shown]) + (self.line if left_out else 0)
        paper = Image.new("RGB", (width, height), _PAPER)
        y = _MARGIN
        for row, extent in zip(self.rows[:shown], heights, strict=False):
            self._draw_row(paper, row, y)
            y += extent
        if left_out:
            self._write(paper, (_MARGIN, y), f"{left_out} more rows are left out.", width, _FAINT)
        return paper

    def _indent(self) -> int:
        return 2 * _GAP if self.with_lead else 0

    def _height(self, row: SheetRow) -> int:
        lines = max(1, -(-len(row.tiles) // self.columns))
        return lines * self.cell + (self.line + 2 if row.title else 0) + _GAP

    def _draw_row(self, paper: Image.Image, row: SheetRow, y: int) -> None:
        if row.title:
            self._write(paper, (_MARGIN, y), row.title, paper.width - 2 * _MARGIN, _INK)
            y += self.line + 2
        step = self.width + 2 * _FRAME + _GAP
        if row.lead:
            self._draw_tile(paper, row.lead, _MARGIN, y)
        x = _MARGIN + self._indent() + (step if self.with_lead else 0)
        for n, tile in enumerate(row.tiles):
            down, across = divmod(n, self.columns)
            self._draw_tile(paper, tile, x + across * step, y + down * self.cell)

    def _draw_tile(self, paper: Image.Image, tile: Tile, x: int, y: int) -> None:
        pen = ImageDraw.Draw(paper)
        right, bottom = x + self.width + 2 * _FRAME - 1, y + self.height + 2 * _FRAME - 1
        if tile.frame:
            pen.rectangle((x, y, right, bottom), fill=tile.frame)
        inner = (x + _FRAME, y + _FRAME)
        pen.rectangle((*inner, right - _FRAME, bottom - _FRAME), fill=_EMPTY)
        image = self._small(tile.image)
        if image is None:
            self._write(paper, (inner[0] + 4, inner[1] + 4), "not readable", self.width - 8, _FAINT)
        else:
            offset = (self.width - image.width) // 2, (self.height - image.height) // 2
            paper.paste(image, (inner[0] + offset[0], inner[1] + offset[1]))
        for n, text in enumerate(tile.captions):
            place = (x + _FRAME, bottom + 3 + n * self.line)
            self._write(paper, place, text, self.width, _INK if n == 0 else _FAINT)

    def _small(self, image: Any) -> Image.Image | None:
        """The image scaled to fit a tile, its sides in proportion and at least one pixel."""
        try:
            image = self.load(image) if isinstance(image, str) else image.convert("RGB")
        except Exception:  # whatever decoders raise; a sheet shows what it can
            return None
        scale = min(self.width / image.width, self.height / image.height)
        size = [max(1, round(scale * side)) for side in image.size]
        return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)

    def _write(
        self, paper: Image.Image, place: tuple[int, int], text: str, width: int, colour: str
    ) -> None:
        ImageDraw.Draw(paper).text(place, fit_text(text, width), fill=colour, font=_font())


def _tiles_of(row: SheetRow) -> list[Tile]:
    return [*row.tiles, *([row.lead] if row.lead else [])]


def fit_text(text: str, width: int) -> str:
    """A line that is not wider than so many pixels: its middle gives way, its end stays.

    Characters that the font does not have become a replacement character, line breaks and other
    control characters too: each of them would be an empty box.
    """
    text = "".join(c if _has_glyph(c) else _UNKNOWN for c in unicodedata.normalize("NFC", text))
    if _font().getlength(text) <= width:
        return text
    low, high = 0, len(text)  # so many characters stay
    while low < high:
        middle = (low + high + 1) // 2
        fits = _font().getlength(_without_middle(text, middle)) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    """The first third and the last two thirds of so many characters: names differ at their end."""
    head = kept // 3
    return text[:head] + _ELLIPSIS + text[len(text) - (kept - head) :]


@cache
def _font() -> Any:
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and Arabic."""
    import matplotlib

    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, FONT_SIZE)


@cache
def _has_glyph(character: str) -> bool:
    if character == " " or character == _UNKNOWN:
        return True
    if unicodedata.category(character)[0] in "CZ":
        return False
    return bytes(_font().getmask(character)) != bytes(_font().getmask("\uffff"))


def _open(path: str) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
