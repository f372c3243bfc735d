"""Small pictures inside the page: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence

from PIL import Image
from tqdm import tqdm

from ..data.image_files import load_image
from ..errors import UserError

_BOX = (96, 112)  # pixels, width and height at most: twice what is shown, for sharp screens
_QUALITY = 70


class Thumbnails:
    """Pictures of the images of a run as data URIs, each made once.

    Args:
        paths: of the images, or None if they are not known.
        root: a folder for paths that are relative and not found from here; "" for none.
    """

    def __init__(self, paths: Sequence[str] | None, root: str = "") -> None:
        self._paths = paths
        self._root = root
        self._made: dict[int, str] = {}
        self.missing: dict[str, str] = {}  # path -> why it cannot be shown

    def make(self, rows: Sequence[int]) -> None:
        """Read images, with a bar on a terminal; those that cannot be read are noted."""
        todo = [row for row in dict.fromkeys(rows) if row not in self._made]
        for row in tqdm(todo if self._paths else [], "pictures", leave=False, disable=None):
            self._made[row] = self._make(self.path(row))

    def path(self, row: int) -> str:
        """The path of an image as the run had it; "" if it is not known."""
        return self._paths[row] if self._paths and row < len(self._paths) else ""

    def uri(self, row: int) -> str:
        """`data:image/jpeg;base64,...`; "" where there is no picture."""
        return self._made.get(row, "")

    def _make(self, path: str) -> str:
        found = path
        if self._root and not os.path.isabs(path) and not os.path.exists(path):
            found = os.path.join(self._root, path)
        try:
            image = load_image(found) if path else None
        except UserError as error:
            self.missing[path] = str(error)
            return ""
        if image is None:
            return ""
        image.thumbnail(_BOX, Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()

    @property
    def notes(self) -> list[str]:
        """A sentence, if pictures are missing."""
        if not self.missing:
            return []
        path, why = next(iter(self.missing.items()))
        more = f" {len(self.missing) - 1} more cannot be shown." if len(self.missing) > 1 else ""
        hint = ""
        if not os.path.isabs(path):
            hint = " Paths of this run are relative: "
            hint += (
                f"they were looked for here and in --image-root {self._root}."
                if self._root
                else "start from its folder, or give --image-root."
            )
        return [f"An image cannot be shown: {why}{more}{hint}"]
