"""Makes one HTML page of what the labels of a run do, finished or under way; no network, no GPU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..files import atomic_write
from ..output_files import check_output
from .ending import exit_code

if TYPE_CHECKING:
    from ..report.content import Content
    from ..report.run_folder import RunFolder
    from ..report.thumbnails import Thumbnails

TENSORBOARD = "report_tensorboard"
"""The folder in OUTPUT_DIR for TensorBoard."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("output_dir", metavar="OUTPUT_DIR", help="of the run")
    add("--out", metavar="FILE.html", help="the page (default: OUTPUT_DIR/report.html)")
    add("--json", metavar="FILE.json", help="its figures (default: OUTPUT_DIR/report.json)")
    add("--round", type=int, metavar="R", help="whose clusters are shown (default: the last)")
    add("--clusters", type=int, default=10, metavar="N", help="shown in each contact sheet "
        "(default: 10; 0: no images)")  # fmt: skip
    add("--map-rounds", type=int, default=8, metavar="N", help="rounds of the map of features, "
        "seconds each (default: 8; 0: no map)")  # fmt: skip
    add("--image-root", default="", metavar="FOLDER", help="where relative paths of images begin "
        "(default: here)")  # fmt: skip
    add("--no-tensorboard", action="store_true", help=f"write no OUTPUT_DIR/{TENSORBOARD}")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    return exit_code(lambda: report(args))


def report(args: argparse.Namespace) -> None:
    """Read, count, draw, write; prints what was written."""
    from ..report.content import Wishes, collect
    from ..report.run_folder import read_run

    for option, value in (("--clusters", args.clusters), ("--map-rounds", args.map_rounds)):
        if value < 0:
            raise UserError(f"{option} is {value}, but it must be 0 or more.")
    run = read_run(args.output_dir)
    _check(args, run)
    content = collect(run, Wishes(args.map_rounds, args.clusters, args.round))
    _write(args, run, content)


def _check(args: argparse.Namespace, run: RunFolder) -> None:
    """Refuse what cannot be written or shown, before the work; fills in the default files."""
    args.out = str(run.path / "report.html") if args.out is None else args.out
    args.json = str(run.path / "report.json") if args.json is None else args.json
    read = [str(run.path / "summary.json"), str(run.path / "labels/images.txt")]
    read += map(str, run.label_files.values())
    check_output("--out", args.out, *read)
    check_output("--json", args.json, *read)
    if Path(args.out).absolute() == Path(args.json).absolute():
        raise UserError(f"--out and --json are both {args.out}; name two files.")
    if args.round is not None and args.round not in run.label_files:
        known = ", ".join(map(str, run.label_files)) or "none"
        raise UserError(
            f"--round is {args.round}, but {run.path} has the labels of these rounds: {known}."
        )
    if args.image_root and not Path(args.image_root).is_dir():
        raise UserError(f"--image-root is {args.image_root}, which is no folder; name one.")


def _pictures(args: argparse.Namespace, run: RunFolder, content: Content) -> Thumbnails:
    from ..report.thumbnails import Thumbnails

    pictures = Thumbnails(run.images, args.image_root)
    pictures.make([int(row) for row in (content.figures["sheets"] or {"images": {}})["images"]])
    run.notes.extend(pictures.notes)
    return pictures


def _write(args: argparse.Namespace, run: RunFolder, content: Content) -> None:
    from ..report.charts import make_charts
    from ..report.page import make_page
    from ..report.tensorboard_log import write_tensorboard

    pictures = _pictures(args, run, content)
    charts = make_charts(content.figures)
    page = make_page(content.figures, charts, pictures)
    figures = json.dumps(content.figures, indent=1, allow_nan=False)
    written = [args.out, args.json]
    try:
        for path, text in ((args.out, page), (args.json, figures + "\n")):
            with atomic_write(path) as file:
                file.write(text.encode())
        if not args.no_tensorboard:
            write_tensorboard(content, charts, run.path / TENSORBOARD)
            written.append(str(run.path / TENSORBOARD))
    except OSError as error:
        raise UserError(
            f"{error.filename or args.out} cannot be written ({error.strerror})."
        ) from error
    print("Written: " + ", ".join(written))
