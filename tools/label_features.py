#!/usr/bin/env python
"""One labeling round on saved features: no GPU, no network, no training."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from fastreid_uda.errors import UserError
from fastreid_uda.files import atomic_write
from fastreid_uda.memory import peak_rss_mb
from fastreid_uda.output_files import check_output
from fastreid_uda.progress import show_on_stderr


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
    from fastreid_uda.config import build_labeler
    from fastreid_uda.config_loading import load_config
    from fastreid_uda.labeling.label_files import labeling_to_arrays, read_feature_set
    from fastreid_uda.labeling.quality import describe_labeling

    check_output("--out", args.out, args.features)
    cfg = load_config(args.config_file, args.opts)
    features, identities = read_feature_set(args.features)
    if not 0 <= args.round < max(1, cfg.UDA.ROUNDS):
        raise UserError(f"--round is {args.round}, but the rounds are 0 to UDA.ROUNDS - 1.")
    labeler = build_labeler(cfg)
    labeler.check_views(tuple(features.views))
    labeling = labeler(features, args.round, cfg.UDA.ROUNDS)
    try:
        with atomic_write(args.out) as file:
            np.savez_compressed(file, **labeling_to_arrays(labeling, identities))
    except OSError as error:
        raise UserError(f"{args.out} cannot be written ({error.strerror}).") from error
    report = describe_labeling(labeling, features.camera_ids, identities)
    return report | {"peak_rss_mb": peak_rss_mb()}


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    try:
        print(json.dumps(label(parse_arguments(arguments))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    show_on_stderr()
    sys.exit(main())
