"""The matches of queries as tables, as JSON, and as a contact sheet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .contact_sheet import QUERY_FRAME, SheetRow, Tile, contact_sheet
from .feature_index import FeatureIndex
from .search import Matches


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        path: of the image.
        row: in the index; None: it is not there.
        camera: its name, if it is known.
        feature: (D,) float32.
    """

    path: str
    row: int | None
    camera: str | None
    feature: np.ndarray


def as_tables(
    queries: Sequence[Query], found: Sequence[Matches], index: FeatureIndex, metric: str
) -> str:
    """One table per query, with what is known of the matches; `metric` names the distance."""
    from tabulate import tabulate

    columns = {"camera": index.cameras, "identity": index.identities, "path": index.paths}
    known = {name: values for name, values in columns.items() if any(values)}
    texts = []
    other = "image of another camera" if len(index.paths) > 1 else "other image"
    for query, matches in zip(queries, found, strict=True):
        title = f"{query.path}{_where(query)}: "
        if not len(matches.rows):
            texts.append(f"{title}the index has no {other}.")
            continue
        rows = [
            [rank, f"{distance:.4f}", *(values[row] or "" for values in known.values())]
            for rank, (row, distance) in enumerate(_pairs(matches), start=1)
        ]
        headers = ["rank", "distance", *known]
        table = tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
        texts.append(f"{title}distances are {metric}\n{table}")
    return "\n\n".join(texts)


def _where(query: Query) -> str:
    words = [] if query.row is None else [f"row {query.row} of the index"]
    words += [] if query.camera is None else [f"camera {query.camera}"]
    return f" ({', '.join(words)})" if words else ""


def _pairs(matches: Matches) -> list[tuple[int, float]]:
    return list(zip(matches.rows.tolist(), matches.distances.tolist(), strict=True))


def as_json(
    queries: Sequence[Query], found: Sequence[Matches], index: FeatureIndex, metric: str
) -> str:
    """One line: `images`, `distances`, and for each of `queries` its `matches`, nearest first."""
    content = {
        "images": index.images,
        "distances": metric,
        "queries": [
            {
                "path": query.path,
                "row": query.row,
                "camera": query.camera,
                "matches": [
                    {
                        "rank": rank,
                        "row": row,
                        "distance": distance,
                        "camera": index.cameras[row],
                        "identity": index.identities[row],
                        "path": index.paths[row],
                    }
                    for rank, (row, distance) in enumerate(_pairs(matches), start=1)
                ],
            }
            for query, matches in zip(queries, found, strict=True)
        ],
    }
    return json.dumps(content)


def as_sheet(
    queries: Sequence[Query],
    found: Sequence[Matches],
    index: FeatureIndex,
    load: Callable[[str], Any],
) -> Image.Image:
    """A contact sheet: the query on the left, its matches with rank, distance, camera and name."""
    rows = [
        SheetRow(
            tiles=[
                Tile(
                    index.path_of(row),
                    (f"{rank}   {distance:.3f}", *_caption(index.paths[row], index.cameras[row])),
                )
                for rank, (row, distance) in enumerate(_pairs(matches), start=1)
            ],
            lead=Tile(query.path, ("query", *_caption(query.path, query.camera)), QUERY_FRAME),
            title=query.path,
        )
        for query, matches in zip(queries, found, strict=True)
    ]
    return contact_sheet(rows, load=load)


def _caption(path: str, camera: str | None) -> tuple[str, ...]:
    return (*([camera] if camera else []), os.path.basename(path))
