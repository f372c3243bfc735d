"""PersonFolder: your own crops, with cameras and identities if you know them."""

from __future__ import annotations

import os
import re
from typing import Any

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from ...errors import UserError
from ..folder_listing import list_images
from ..folder_table import FolderTable

Item = tuple[str, "str | None", "str | None"]


@DATASET_REGISTRY.register()
class PersonFolder(ImageDataset):
    """Folders of person crops, configured by `DATASETS.FOLDER.*`.

    Args:
        train: folder of the images to adapt to, searched through its subfolders.
        query: folder of the query images, or empty.
        gallery: folder of the gallery images, or empty.
        pattern: regular expression searched in the path inside the folder, with the groups
            `camera` and `identity` (either may be missing); empty: neither is known.
        table: name of a CSV file with the columns path, camera, identity; used instead of the
            pattern, see `FolderTable`.

    Cameras and identities are names: any text, without blanks around it.
    """

    def __init__(
        self, train: str, query: str = "", gallery: str = "", pattern: str = "", table: str = ""
    ) -> None:
        if not train:
            raise UserError(
                "DATASETS.FOLDER.TRAIN is empty, but the data set PersonFolder needs a folder of "
                "images; set DATASETS.FOLDER.TRAIN."
            )
        if pattern and table:
            raise UserError(
                "DATASETS.FOLDER.PATTERN and DATASETS.FOLDER.CSV are both set; keep one of them."
            )
        if bool(query) != bool(gallery):
            raise UserError(
                f"DATASETS.FOLDER.{'QUERY' if query else 'GALLERY'} is set, but scores need a "
                "query and a gallery folder; set both of them or neither."
            )
        facts = FolderTable(table).facts if table else _PathPattern(pattern).facts
        lists = [
            [(os.path.join(folder, name), *facts(folder, name)) for name in
             (list_images(folder, f"DATASETS.FOLDER.{key}") if folder else ())]
            for key, folder in (("TRAIN", train), ("QUERY", query), ("GALLERY", gallery))
        ]  # fmt: skip
        tests = _number_test_items(lists[1], lists[2])
        super().__init__(lists[0], *tests)

    @classmethod
    def from_config(cls, cfg: Any) -> PersonFolder:
        """The data set that `DATASETS.FOLDER.*` describes."""
        node = cfg.DATASETS.FOLDER
        return cls(node.TRAIN, node.QUERY, node.GALLERY, node.PATTERN, node.CSV)


class _PathPattern:
    """Camera and identity by a regular expression."""

    def __init__(self, pattern: str) -> None:
        try:
            self._regex = re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"DATASETS.FOLDER.PATTERN is {pattern!r}, which is no regular expression ({error})."
            ) from error
        groups = self._regex.groupindex
        if pattern and (set(groups) - {"camera", "identity"} or not groups):
            raise UserError(
                f"DATASETS.FOLDER.PATTERN is {pattern!r}, but its groups must be named camera and "
                r"identity, e.g. (?P<identity>\d+)_c(?P<camera>\d+)."
            )

    def facts(self, folder: str, name: str) -> tuple[str | None, str | None]:
        """Identity and camera of one image, None if unknown."""
        match = self._regex.search(name.replace(os.sep, "/"))
        if match is None:
            raise UserError(
                f"{os.path.join(folder, name)} does not match DATASETS.FOLDER.PATTERN "
                f"({self._regex.pattern}); rename the image, move it away or change the pattern."
            )
        groups = match.groupdict()
        identity, camera = ((groups.get(n) or "").strip() or None for n in ("identity", "camera"))
        return identity, camera


def _number_test_items(query: list[Item], gallery: list[Item]) -> tuple[list, list]:
    """Test items with integer identities and cameras, numbered over query and gallery together."""
    if not (query and gallery):
        return [], []
    for path, identity, camera in (*query, *gallery):
        if identity is None or camera is None:
            raise UserError(
                f"{path} is a test image without identity or camera id, but scores need both; set "
                "DATASETS.FOLDER.PATTERN, or clear DATASETS.FOLDER.QUERY and GALLERY."
            )
    identities, cameras = (
        {value: n for n, value in enumerate(sorted({str(item[i]) for item in (*query, *gallery)}))}
        for i in (1, 2)
    )

    def numbered(items: list[Item]) -> list[tuple[str, int, int]]:
        return [(path, identities[str(i)], cameras[str(c)]) for path, i, c in items]

    return numbered(query), numbered(gallery)
