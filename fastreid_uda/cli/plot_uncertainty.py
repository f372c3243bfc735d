"""Draws how uncertain the right and the wrong labels of a round are: P2LR's Fig. 3c."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..errors import UserError
from ..files import atomic_write
from ..labeling.label_files import read_uncertainty
from ..labeling.uncertainty_scores import right_and_wrong, score_uncertainty
from ..output_files import check_output
from .ending import exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("labels", metavar="LABELS.npz", help="of fastreid-uda label or a run's round; right "
        "labels are those of images with the most frequent identity of their cluster")  # fmt: skip
    add("--identities", metavar="FILE.npz", help="the array identities, if LABELS.npz has none")
    add("--out", required=True, metavar="FIGURE.png", help="the figure to write; also .pdf, .svg")
    return parser.parse_args(arguments)


def draw(right: np.ndarray, wrong: np.ndarray, path: str) -> None:
    """Write the histograms, one over the other, with the same bins."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([right, wrong, [0.0]], dtype=np.float64)  # from 0 on, the least there is
    try:  # ValueError: infinite values, or a format that matplotlib does not know
        edges = np.histogram_bin_edges(both, bins=60)
        for name, values, color in (("right", right, "#0072B2"), ("wrong", wrong, "#D55E00")):
            label = f"{name} label: {len(values)} images"
            axes.hist(values, edges.tolist(), alpha=0.6, color=color, label=label)
        axes.set(xlabel="uncertainty", ylabel="images")
        axes.legend(frameon=False)
        with atomic_write(path) as file:
            figure.savefig(file, format=Path(path).suffix[1:] or "png")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be drawn ({error}).") from error


def plot(args: argparse.Namespace) -> None:
    """Read, draw, print."""
    check_output("--out", args.out, args.labels, args.identities)
    three = read_uncertainty(args.labels, args.identities)
    draw(*right_and_wrong(*three), args.out)
    print(json.dumps(score_uncertainty(*three)))


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    return exit_code(lambda: plot(args))
