"""Which eps suits the target: clusters of saved features, or of a run's network, at many eps."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from tqdm import tqdm

from ..evaluation.eps_figure import draw_scans
from ..labeling.eps_report import as_csv, as_json, as_text, pair_f1_of_scans
from ..output_files import check_output
from ..progress import show_on_stderr
from .ending import exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("features", nargs="?", metavar="FEATURES.npz", help="as for fastreid-uda label")
    add("--config-file", metavar="FILE", help="the config of a method, for FEATURES.npz")
    add("--run", metavar="OUTPUT_DIR", help="a run, instead of FEATURES.npz and --config-file")
    add("--save-features", metavar="FILE.npz", help="write the features, e.g. those of the run")
    add("--eps", nargs=3, type=float, metavar="X",
        help="FROM TO STEPS: the eps to try (default: the keys UDA.CLUSTER.SCAN.*)")  # fmt: skip
    add("--out", metavar="FIGURE.png", help="the figure to write; also .pdf, .svg")
    add("--csv", dest="report", action="store_const", const=as_csv,
        help="print CSV (default: a table)")  # fmt: skip
    add("--json", dest="report", action="store_const", const=as_json, help="print a line of JSON")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of config keys")
    args = parser.parse_intermixed_args(arguments)
    if args.run and args.features:  # there is no file: it is the first of the overrides
        args.opts, args.features = [args.features, *args.opts], None
    if bool(args.run) == bool(args.config_file) or not (args.run or args.features):
        parser.error("give FEATURES.npz with --config-file FILE, or --run OUTPUT_DIR")
    for key, value in zip(("LOWEST", "HIGHEST", "STEPS"), args.eps or (), strict=False):
        args.opts += [f"UDA.CLUSTER.SCAN.{key}", f"{value:.15g}" if key == "STEPS" else str(value)]
    return args


def scan(args: argparse.Namespace) -> tuple[dict, dict]:
    """View -> its scan, and view -> pair F1 where there are identities."""
    from ..config import build_labeler
    from ..config_loading import load_config
    from ..labeling.label_files import read_feature_set, write_feature_set

    check_output("--out", args.out, args.features)
    check_output("--save-features", args.save_features, args.features)
    rule = ["UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.EPS_RULE", "Scan", "UDA.REFINERS", "()"]
    if args.run:
        import fastreid_uda.plugin  # noqa: F401  registers data sets and networks

        from ..engine.run_features import extract_run_features, load_run_config

        labeler = build_labeler(load_run_config(args.run, [*args.opts, *rule]))
        features, identities = extract_run_features(args.run, args.opts)
    else:
        labeler = build_labeler(load_config(args.config_file, [*args.opts, *rule]))
        features, identities = read_feature_set(args.features)
    if args.save_features:
        write_feature_set(args.save_features, features, identities)
    eps_rule: Any = labeler.eps
    bar = partial(tqdm, desc="eps", disable=None)
    scans = labeler.scan_eps(features, eps_rule, bar, round_index=1 if args.run else 0)
    return scans, pair_f1_of_scans(scans, identities)


def show(args: argparse.Namespace) -> None:
    """Scan, draw, print."""
    scans, truth = scan(args)
    if args.out:
        draw_scans(scans, truth, args.out)
    print((args.report or as_text)(scans, truth))


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    show_on_stderr()
    return exit_code(lambda: show(args))
