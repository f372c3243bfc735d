"""The images of an index that are nearest to query images."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..output_files import check_output
from ..progress import show_on_stderr
from .ending import exit_code

if TYPE_CHECKING:
    import numpy as np

    from ..evaluation.feature_index import FeatureIndex
    from ..evaluation.search import Matches
    from ..evaluation.search_output import Query

logger = logging.getLogger(__name__)

FORMATS = (".png", ".jpg", ".jpeg", ".webp")
_NAMED = 8  # cameras in a message


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__} An image of the index is no match of itself.",
        usage="%(prog)s [-h] INDEX [QUERY ...] [--row N ...] [options]",
    )
    add = parser.add_argument
    add("index", metavar="INDEX", help="a folder written by extract")
    add("queries", nargs="*", metavar="QUERY", help="image files, of the index or others")
    add("--row", type=int, action="append", default=[], metavar="N",
        help="an image of the index as query, by its row in index.csv")  # fmt: skip
    add("--images", metavar="DIR", help="folder of the images, if they have moved since extract")
    add("--top", type=int, default=20, metavar="N", help="matches per query (default: 20)")
    add("--out", metavar="SHEET", help=f"contact sheet to write ({', '.join(FORMATS)})")
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--camera", metavar="NAME", help="camera of the queries that are not in the index")
    add("--other-cameras", action="store_true", help="no matches of the query's own camera")
    add("--rerank", action="store_true",
        help="re-rank as TEST.RERANK.* of the index's network says (default: not)")  # fmt: skip
    return parser.parse_intermixed_args(arguments)


def search(args: argparse.Namespace) -> str:
    """Embed, search, draw; returns what is printed."""
    import numpy as np

    from ..config_loading import load_config
    from ..data.image_files import load_image
    from ..evaluation.feature_index import read_index
    from ..evaluation.index_folder import NETWORK
    from ..evaluation.search import Reranking, find_matches
    from ..evaluation.search_output import as_json, as_sheet, as_tables

    _check_arguments(args)
    index = _at(args.images, read_index(args.index))
    cfg = load_config(os.path.join(args.index, NETWORK))
    queries = _queries(args, index, cfg)
    test = cfg.TEST
    again = Reranking(test.RERANK.K1, test.RERANK.K2, test.RERANK.LAMBDA)
    found = find_matches(
        np.stack([query.feature for query in queries]),
        index.features,
        [_left_out(query, index, args.other_cameras) for query in queries],
        metric=test.METRIC,
        top=args.top,
        reranking=again if args.rerank else None,
        own=[query.row for query in queries],
    )
    _warn_of_files(queries, found, index)
    if args.out:
        _write_sheet(args.out, as_sheet(queries, found, index, load_image))
    show = as_json if args.json else as_tables
    return show(queries, found, index, test.METRIC + (", re-ranked" if args.rerank else ""))


def _check_arguments(args: argparse.Namespace) -> None:
    if not args.queries and not args.row:
        raise UserError("There is no query; name image files, or rows of the index by --row.")
    if args.top < 1:
        raise UserError(f"--top is {args.top}, but it must be 1 or more.")
    check_output("--out", args.out, *args.queries)
    if args.out and not args.out.lower().endswith(FORMATS):
        raise UserError(f"--out is {args.out}, but a sheet ends in {', '.join(FORMATS)}.")


def _at(folder: str | None, index: FeatureIndex) -> FeatureIndex:
    """The index, its images in the folder that the user has named."""
    if folder is None:
        return index
    if not os.path.isdir(folder):
        raise UserError(f"--images is {folder!r}, which is not a folder.")
    if not any(os.path.isfile(os.path.join(folder, path)) for path in index.paths):
        raise UserError(
            f"--images is {folder}, but no image of the index is there, as {index.paths[0]} would "
            f"be; name the folder that was {index.images}."
        )
    return index.moved_to(folder)


def _warn_of_files(queries: Sequence[Query], found: Sequence[Matches], index: FeatureIndex) -> None:
    """Say which images of the answer are no longer those of which the index was made."""
    rows = {query.row for query in queries if query.row is not None}
    rows |= {row for matches in found for row in matches.rows.tolist()}
    gone, changed = index.gone_and_changed(sorted(rows))
    if gone:
        logger.warning(
            "%d of %d images are not under %s any more, e.g. %s; if they were moved, name their "
            "folder by --images: a query is known to be one of them by its path.",
            len(gone), len(rows), index.images, index.paths[gone[0]],
        )  # fmt: skip
    if changed:
        logger.warning(
            "%d of %d images have changed since the index was made, e.g. %s; the search goes by "
            "what they were. Make the index anew with extract.",
            len(changed), len(rows), index.path_of(changed[0]),
        )  # fmt: skip


def _queries(args: argparse.Namespace, index: FeatureIndex, cfg: Any) -> list[Query]:
    """The queries in their order: the named files, then the rows."""
    from ..evaluation.search_output import Query

    rows = [*(index.row_of(path) for path in args.queries), *args.row]
    paths = [*args.queries, *(_path_of(index, row) for row in args.row)]
    others = [path for path, row in zip(paths, rows, strict=True) if row is None]
    if args.camera is not None or args.other_cameras:
        _check_cameras(args, index, bool(others))
    embedded = dict(zip(others, _embed(args.index, others, index, cfg), strict=True))
    return [
        Query(path, row, args.camera, embedded[path])
        if row is None
        else Query(path, row, index.cameras[row], index.features[row])
        for path, row in zip(paths, rows, strict=True)
    ]


def _path_of(index: FeatureIndex, row: int) -> str:
    if not 0 <= row < len(index.paths):
        last = len(index.paths) - 1
        raise UserError(f"--row is {row}, but the rows of the index are 0 to {last}.")
    return index.path_of(row)


def _check_cameras(args: argparse.Namespace, index: FeatureIndex, with_others: bool) -> None:
    known = sorted({camera for camera in index.cameras if camera is not None})
    if not known:
        raise UserError(
            f"The index {args.index} knows no cameras; make it with --camera-pattern or --csv, or "
            "leave out --camera and --other-cameras."
        )
    names = ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
    if args.camera is not None and args.camera not in known:
        raise UserError(f"--camera is {args.camera!r}, but the index knows: {names}.")
    if args.other_cameras and with_others and args.camera is None:
        raise UserError(
            "--other-cameras needs the camera of a query that is not in the index; add --camera "
            f"with one of: {names}."
        )


def _embed(folder: str, paths: Sequence[str], index: FeatureIndex, cfg: Any) -> np.ndarray:
    """(Q, D) features of images that are not in the index, by its network."""
    import numpy as np

    if not paths:
        return np.zeros((0, index.features.shape[1]), dtype=np.float32)
    import fastreid_uda.plugin  # noqa: F401  registers networks

    from ..data.image_files import load_image
    from ..data.image_list import ImageList
    from ..engine.embedding import embed, load_network
    from ..evaluation.feature_index import check_weights

    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"The query {path} is not there; name an image file.")
        try:
            load_image(path)
        except UserError as error:
            raise UserError(f"The query {error}") from error
    check_weights(folder, index)
    cfg.MODEL.WEIGHTS = index.weights
    cfg.DATALOADER.NUM_WORKERS = 0
    if cfg.MODEL.DEVICE.startswith("cuda"):
        cfg.MODEL.DEVICE = _device()
    return embed(load_network(cfg, index.teacher), ImageList(tuple(paths), None, None), cfg)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _left_out(query: Query, index: FeatureIndex, other_cameras: bool) -> np.ndarray:
    """Rows that are no matches: with --other-cameras those of the query's camera."""
    import numpy as np

    cameras = enumerate(index.cameras) if other_cameras else ()
    rows = [row for row, camera in cameras if camera == query.camera]
    return np.array(rows, dtype=np.int64)


def _write_sheet(path: str, sheet: Any) -> None:
    from ..files import atomic_write

    kind = os.path.splitext(path)[1].lower().lstrip(".").replace("jpg", "jpeg")
    try:
        with atomic_write(path) as file:
            sheet.save(file, format=kind, quality=92)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    show_on_stderr()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return exit_code(lambda: print(search(args)))
