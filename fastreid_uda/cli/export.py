"""Take a network away: for fast-reid itself, as ONNX, or for torch alone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..export import FORMATS
from ..progress import show_on_stderr
from .ending import exit_code

if TYPE_CHECKING:
    from ..export.writing import Request


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", metavar="OUTPUT_DIR|MODEL.pth", help="a run, or a checkpoint")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of config keys")
    add("--out", required=True, metavar="FOLDER", help="a new folder")
    add("--format", action="append", dest="formats", metavar="NAME,...",
        help=f"{', '.join(FORMATS)} (default: fastreid,onnx)")  # fmt: skip
    add("--config-file", metavar="FILE", help="the config (default: the run's)")
    add("--checkpoint", metavar="NAME", help="final, best or last (default: final, else last)")
    add("--network", metavar="NAME", help="teacher or student (default: teacher if it has one)")
    add("--number", type=int, metavar="N", help="which of several (default: 1, of best the best)")
    add("--views", metavar="NAME,...", help="views to give, joined (default: TEST.VIEWS)")
    add("--normalization", choices=("inside", "outside"), default="inside",
        metavar="SIDE", help="inside or outside of the file (default: inside)")  # fmt: skip
    add("--l2", action="store_true", help="features of length 1 (default: as they are)")
    args = parser.parse_intermixed_args(arguments)
    args.formats = _words(args.formats or [])
    while args.opts and args.opts[0] in FORMATS:  # written with blanks instead of commas
        args.formats.append(args.opts.pop(0))
    return args


def _words(values: list[str]) -> list[str]:
    """The words of options that take several, joined by commas."""
    return [word.strip() for value in values for word in value.split(",")]


def export(args: argparse.Namespace) -> None:
    """Read, write, compare, and say what there is now."""
    import fastreid_uda.plugin  # noqa: F401  registers data sets and networks

    from ..export.sources import open_source
    from ..export.writing import check_request, write_export

    request = _request(args)
    check_request(request)
    source = open_source(args.model, args.config_file, args.checkpoint, args.opts)
    print(report(write_export(source, request), args.out))


def _request(args: argparse.Namespace) -> Request:
    from ..export.writing import Request

    return Request(
        out=args.out,
        formats=tuple(dict.fromkeys(args.formats)) or Request.formats,
        kind=args.network,
        number=args.number,
        views=None if args.views is None else tuple(_words([args.views])),
        normalize=args.normalization == "inside",
        unit=args.l2,
    )


def report(content: dict[str, Any], folder: str) -> str:
    """What is printed: where the network is from, a row per format, the notes."""
    from tabulate import tabulate

    rows = [
        {
            "format": entry["format"],
            "files": " + ".join(entry["files"]),
            "MB": f"{entry['bytes'] / 1e6:.1f}",
            "difference": f"{entry['max_relative_difference']:.1e}",
        }
        for entry in content["files"]
    ]
    scores = f", mAP {content['scores']['mAP']:.2f}" if "mAP" in content["scores"] else ""
    lines = [
        f"{content['network']} of {content['source']} ({content['checkpoint']}{scores}) is in "
        f"{folder}; README.txt there says how to use it:",
        tabulate(rows, headers="keys", tablefmt="simple_outline", disable_numparse=True),
        f"(difference: the largest relative one to the run's features, on noise and on "
        f"{content['compared_on']})",
    ]
    return "\n".join([*lines, *content["notes"]])


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    show_on_stderr()
    return exit_code(lambda: export(args))
