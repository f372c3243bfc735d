"""Makes one HTML page of what the labels of a run do, finished or under way; no network, no GPU."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
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
    for option, path in (("--out", args.out), ("--json", args.json)):
        check_output(option, path, *read)
        _check_folder(option, path)
    if os.path.realpath(args.out) == os.path.realpath(args.json):
        raise UserError(f"--out and --json are both {args.out}; name two files.")
    if not args.no_tensorboard:
        _check_tensorboard(run.path / TENSORBOARD)
    if args.round is not None and args.round not in run.label_files:
        known = ", ".join(map(str, run.label_files)) or "none"
        raise UserError(
            f"--round is {args.round}, but {run.path} has the labels of these rounds: {known}."
        )
    if args.image_root and not Path(args.image_root).is_dir():
        raise UserError(f"--image-root is {args.image_root}, which is no folder; name one.")


def _check_folder(option: str, path: str) -> None:
    """Refuse a folder in which no file can be made, whatever its mode says (/proc)."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{option} is {path}, but no file can be made in {folder} ({error.strerror}); name a "
            "file elsewhere."
        ) from error


def _check_tensorboard(folder: Path) -> None:
    """Refuse what `write_tensorboard` could not do."""
    for package in ("torch", "tensorboard"):
        try:
            found = importlib.util.find_spec(package)
        except (ImportError, ValueError):  # taken away, or half there
            found = None
        if found is None:
            raise UserError(
                f"{folder} is written by {package}, which is not installed; install it, or give "
                "--no-tensorboard."
            )
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"{folder} is no folder, but TensorBoard's files go there; rename it, or give "
            "--no-tensorboard."
        )
    _check_folder("TensorBoard's file", str(folder / "events"))


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
    page = make_page(content.figures, charts, pictures, Path(args.json).name)
    figures = json.dumps(content.figures, indent=1, allow_nan=False, ensure_ascii=False)
    written: list[str] = []
    try:
        for path, text in ((args.out, page), (args.json, figures + "\n")):
            with atomic_write(path) as file:
                file.write(text.encode("utf-8", "replace"))  # names of files may be any bytes
            written.append(path)
        if not args.no_tensorboard:
            write_tensorboard(content, charts, run.path / TENSORBOARD)
            written.append(str(run.path / TENSORBOARD))
    except (OSError, ImportError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        name = getattr(error, "filename", None) or "TensorBoard's file"
        done = f"; written: {', '.join(written)}" if written else ""
        raise UserError(f"{name} cannot be written ({reason}){done}.") from error
    print("Written: " + ", ".join(written))
