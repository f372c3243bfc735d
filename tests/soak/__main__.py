"""Kill small adaptations at random moments, resume them, compare them with undisturbed ones."""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

import fastreid_uda.plugin  # noqa: F401  imported here, so that no run has to
from tests.helpers import write_market
from tests.soak.chains import METHODS, Soak, deal_kinds


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="shared out over the methods")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--keep", type=Path, help="an empty folder for the runs; not removed")
    args = parser.parse_args()
    if args.kills < len(args.methods):
        parser.error(
            f"--kills is {args.kills}, but each of the {len(args.methods)} methods needs one"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        os.environ["FASTREID_DATASETS"] = str(write_market(folder / "data").parent)
        rng = random.Random(args.seed)
        kinds = deal_kinds(rng, args.kills)
        kills, different = [], []
        for number, method in enumerate(args.methods):
            own = kinds[number :: len(args.methods)]
            print(f"{method}: an undisturbed run, then {len(own)} kills", flush=True)
            soak = Soak(method, folder / str(number), rng)
            kills += soak.kill(own)
            different += soak.differences
    rows = [(k.method, k.place, k.resumed, f"{k.outcome.seconds:.1f}") for k in kills]
    print(tabulate(rows, headers=["method", "killed", "resumed from", "after s"]))
    for entry in different[:20]:
        print(entry)
    print(f"{len(kills)} kills, {len(different)} differences")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
