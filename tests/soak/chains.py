"""Chains of start, kill, resume, kill, ... that end with the run they would have been."""

import random
import re
from dataclasses import dataclass

from tests.helpers import ROOT, TINY
from tests.soak.comparing import differences
from tests.soak.process import Outcome, train_net

COMMON = [*TINY, "UDA.ROUNDS", "3", "SOLVER.MAX_EPOCH", "2", "SOLVER.CHECKPOINT_PERIOD", "1",
          "TEST.EVAL_PERIOD", "1", "TEST.IMS_PER_BATCH", "8"]  # fmt: skip
TWO_SOURCES = ["UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER", "6",
               "UDA.SOURCE.OPTS", "['SOLVER.MAX_EPOCH', 2, 'UDA.ITERS_PER_EPOCH', 10]"]  # fmt: skip
METHODS = {
    "baseline": ("baseline", ["DATALOADER.NUM_WORKERS", "2"]),
    "SECRET(MT)": ("secret", []),
    "P2LR": ("p2lr", TWO_SOURCES),
    "NPLP": ("nplp", ["UDA.NPLP.STARTUP_ROUNDS", "1"]),
}
"""Name -> config in configs/Synthetic and overrides."""

KINDS = ("extraction", "labeling", "checkpoint: write", "checkpoint: rename",
         "epoch: before backward", "epoch: between optimiser and teacher", "evaluation",
         "outside")  # fmt: skip


@dataclass
class Kill:
    """A kill that took place, and what the next start went on from."""

    method: str
    kind: str
    outcome: Outcome
    resumed: str = ""

    @property
    def place(self):
        outside = "from outside, after " if self.kind == "outside" else ""
        return f"{outside}{self.outcome.moment} {self.outcome.number} (epoch {self.outcome.epoch})"


def deal_kinds(rng: random.Random, number: int) -> list[str]:
    """Kinds of moments in random order, each as often as the others or once more."""
    dealt: list[str] = []
    while len(dealt) < number:
        dealt += rng.sample(KINDS, len(KINDS))
    return dealt[:number]


class Soak:
    """Kills the runs of one method.

    Args:
        method: a name in `METHODS`.
        folder: for the output folders; made.
        rng: chooses the moments.

    Attributes:
        differences: what differs between the run that was never killed and the others.
    """

    def __init__(self, method, folder, rng):
        config, overrides = METHODS[method]
        self._method, self._folder, self._rng = method, folder, rng
        path = str(ROOT / f"configs/Synthetic/{config}.yml")
        self._arguments = ["--config-file", path, *COMMON, *overrides]
        self._chains = self._runs = 0
        self.differences = []
        folder.mkdir(parents=True)
        self._whole = self._run(folder / "whole", [])

    def kill(self, kinds):
        """Kill runs at random moments of these kinds, as many as it takes; gives the kills."""
        in_source = (kind for kind in kinds if f"source/{kind}" in self._whole.counts)
        first, rest = next(in_source, kinds[0]), list(kinds)
        rest.remove(first)
        kinds, kills = [first, *rest], []
        while len(kills) < len(kinds):
            kills += self._chain(kinds[len(kills) :])
        return kills

    def _chain(self, kinds):
        """Kill a run at one moment after the other, let it come to its end and compare it.

        Returns:
            The kills, fewer than `kinds` if the run came to its end before.
        """
        self._chains += 1
        out = self._folder / f"chain_{self._chains}"
        kills = []
        for kind in [*kinds, None]:
            moment = self._moment(kind, not kills, len(kinds)) if kind else {}
            outcome = self._run(out, ["--resume"] if kills else [], **moment)
            if kills:
                kills[-1].resumed = what_it_resumed(outcome.console)
            if not outcome.killed:
                break
            kills.append(Kill(self._method, kind, outcome))
        found = differences(out, self._folder / "whole")
        self.differences += [f"{self._method}: {entry}" for entry in found]
        return kills

    def _run(self, out, flags, **kill):
        self._runs += 1
        console = self._folder / f"console_{self._runs:02d}.txt"
        return train_net([*flags, *self._arguments, "OUTPUT_DIR", str(out)], console, **kill)

    def _moment(self, kind, is_first, kills):
        """A random moment of a kind.

        The first of a chain is in the source stage if that has any. The others come so soon after
        the start that most of them fit into one run.
        """
        rng, counts = self._rng, self._whole.counts
        share = 1 if is_first else max(1, kills // 2)
        if kind == "outside":
            return {"kill_after": rng.uniform(0, self._whole.seconds / share)}
        name = f"source/{kind}"
        if not is_first or name not in counts:
            name = f"adapt/{kind}"
        return {"kill_at": (name, rng.randint(1, max(1, counts[name] // share)))}


def what_it_resumed(console):
    """The checkpoint that a run went on from, in words."""
    found = re.findall(r"Resuming (\w+) after epoch (\d+)", console)
    if found:
        return f"{found[-1][0]}, epoch {found[-1][1]}"
    return "the source network" if "which exists" in console else "the start"
