#!/usr/bin/env python
"""Train on a source domain, adapt to a target domain, evaluate: see README.md."""

import os
import sys
from pathlib import Path

# Threads that wait for others sleep instead of spinning: 8 % slower on an idle machine (two cores),
# three times faster on one that is shared with another job.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_uda.errors import sentence


def main(args):
    """One process of a run."""
    import fastreid_uda.plugin  # noqa: F401  registers data sets, networks and losses
    from fastreid_uda.engine.checks import check_run
    from fastreid_uda.engine.defaults import build_config, set_up_run
    from fastreid_uda.engine.stages import evaluate_only, run_stages

    cfg = build_config(args)
    check_run(cfg, args.eval_only)
    set_up_run(cfg, args)
    if args.eval_only:
        return evaluate_only(cfg)
    return run_stages(cfg, args.resume)


def run():
    """Parse the command line and start the processes."""
    from fastreid_uda.engine.defaults import default_argument_parser
    from fastreid_uda.engine.launch import start

    start(main, default_argument_parser().parse_args())


if __name__ == "__main__":
    try:
        run()
    except ModuleNotFoundError as error:
        if error.name != "fastreid":
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if sentence(error) is None:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted; continue with --resume.", file=sys.stderr)
        sys.exit(130)
