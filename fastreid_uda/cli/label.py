"""One labeling round on saved features: no GPU, no network, no training."""

from __future__ import annotations

import argparse
import json

import numpy as np

from ..errors import UserError
from ..files import atomic_write
from ..memory import peak_rss_mb
from ..output_files import check_output
from ..progress import show_on_stderr
from .ending import exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("features", metavar="FEATURES.npz",
        help="a float array (N, D) per view under its name, 'global' at least; camera_ids (N,), "
        "identities (N,) (for scores only) and what a refiner asks for, e.g. 'student/global' "
        "(N, D), are optional")  # fmt: skip
    add("--config-file", required=True, metavar="FILE", help="the config of a method")
    add("--round", type=int, default=0, metavar="R", help="the round, from 0 (default: 0)")
    add("--out", required=True, metavar="LABELS.npz", help="the file to write")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of config keys")
    return parser.parse_intermixed_args(arguments)


def label(args: argparse.Namespace) -> dict:
    """Read, label, write; returns what is printed."""
    from ..config import build_labeler
    from ..config_loading import load_config
    from ..labeling.label_files import labeling_to_arrays, read_feature_set
    from ..labeling.quality import describe_labeling

    check_output("--out", args.out, args.features)
    cfg = load_config(args.config_file, args.opts)
    features, identities = read_feature_set(args.features)
    if not 0 <= args.round < max(1, cfg.UDA.ROUNDS):
        raise UserError(f"--round is {args.round}, but the rounds are 0 to UDA.ROUNDS - 1.")
    labeler = build_labeler(cfg)
    labeler.check_views(tuple(features.views))
    labeling = labeler(features, args.round, cfg.UDA.ROUNDS)
    arrays = labeling_to_arrays(labeling, identities, features.camera_ids)
    try:
        with atomic_write(args.out) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise UserError(f"{args.out} cannot be written ({error.strerror}).") from error
    report = describe_labeling(labeling, features.camera_ids, identities)
    return report | {"peak_rss_mb": peak_rss_mb()}


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    show_on_stderr()
    return exit_code(lambda: print(json.dumps(label(args))))
