"""Adapt a re-ID network from a labelled source domain to an unlabelled target domain."""

from __future__ import annotations

import argparse
from typing import Any

from .ending import exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line: fast-reid's own options."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE",
        help="the config of a method (fastreid-uda configs lists them)")  # fmt: skip
    add("--resume", action="store_true", help="go on from the last checkpoint of OUTPUT_DIR")
    add("--eval-only", action="store_true", help="score MODEL.WEIGHTS on DATASETS.TESTS")
    add("--num-gpus", type=int, default=1, metavar="N", help="processes per machine (default: 1)")
    add("--num-machines", type=int, default=1, metavar="N", help="machines (default: 1)")
    add("--machine-rank", type=int, default=0, metavar="N", help="this machine, from 0 (default)")
    add("--dist-url", default="auto", metavar="URL",
        help="where processes meet (default: auto, a free port of this machine)")  # fmt: skip
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of config keys")
    args = parser.parse_intermixed_args(arguments)
    if not args.config_file and args.opts and args.opts[0].endswith((".yml", ".yaml")):
        parser.error(f"type --config-file before {args.opts[0]}")
    return args


def run(args: argparse.Namespace) -> Any:
    """One process of a run."""
    import fastreid_uda.plugin  # noqa: F401  registers data sets, networks and losses

    from ..engine.checks import check_run
    from ..engine.defaults import build_config, set_up_run
    from ..engine.resume_checks import goes_on
    from ..engine.stages import evaluate_only, run_stages

    cfg = build_config(args)
    check_run(cfg, args.eval_only, goes_on(cfg, args))
    set_up_run(cfg, args)
    if args.eval_only:
        return evaluate_only(cfg)
    return run_stages(cfg, args.resume)


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)

    def all_processes() -> None:
        from ..engine.launch import start

        start(run, args)

    return exit_code(all_processes, "Interrupted; continue with --resume.")
