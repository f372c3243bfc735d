"""Draws how the clusters depend on eps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import UserError
from ..files import atomic_write
from ..labeling.eps_scan import EpsScan

_PANELS = (  # what is drawn, one panel below the other: field -> label of the axis
    ("clusters", "clusters"),
    ("kept", "share kept"),
    ("cross_camera", "share of clusters\nof 2+ cameras"),
    ("largest", "share of the\nlargest cluster"),
    ("silhouette", "silhouette"),
    ("stability", "stability (ARI with\nthe eps before)"),
    ("score", "score:\nsilhouette x kept"),
)
_COLOR, _MARK, _TRUTH = "#0072B2", "#D55E00", "#777777"


def draw_scans(
    scans: Mapping[str, EpsScan], truth: Mapping[str, Sequence[float]], path: str
) -> None:
    """Write the figure: a column of small panels for each view, over a shared eps axis.

    Args:
        scans: view -> its scan.
        truth: view -> the pair F1 at each eps, one panel more; empty where there are no identities.
        path: any format that matplotlib knows, .png without a suffix.

    Raises:
        UserError: the file cannot be written, or the format is unknown.
    """
    try:
        with atomic_write(path) as file:
            _draw(scans, truth).savefig(file, format=Path(path).suffix[1:] or "png", dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be drawn ({error}).") from error


def _draw(scans: Mapping[str, EpsScan], truth: Mapping[str, Sequence[float]]) -> Figure:
    panels = [(name, label) for name, label in _PANELS if _is_known(scans, name)]
    number = len(panels) + bool(truth)
    figure = Figure(figsize=(1 + 4 * len(scans), 0.8 + 1.15 * number), layout="constrained")
    grid = figure.subplots(number, len(scans), sharex="col", sharey="row", squeeze=False)
    for column, (view, scan) in enumerate(scans.items()):
        eps = [row.eps for row in scan.rows]
        curves = [(label, [getattr(row, name) for row in scan.rows], _COLOR)
                  for name, label in panels]  # fmt: skip
        if truth:
            curves.append(("pair F1 with the\nidentities (not used)", list(truth[view]), _TRUTH))
        for axes, (label, values, color) in zip(grid[:, column], curves, strict=True):
            drawn = [(x, y) for x, y in zip(eps, values, strict=True) if y is not None]
            axes.axvline(scan.eps, color=_MARK, linewidth=1.2, zorder=1)
            axes.plot(*zip(*drawn, strict=True), "o-", color=color, markersize=3, linewidth=1.2)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            if label.startswith("share"):
                axes.set_ylim(-0.03, 1.03)
            if not column:
                axes.set_ylabel(label, fontsize=8)
            axes.tick_params(labelsize=8)
        grid[0, column].set_title(
            f"{view}: eps {scan.eps:.4g} recommended" + (" (doubtful)" if scan.doubt else ""),
            fontsize=9, color=_MARK,
        )  # fmt: skip
        grid[-1, column].set_xlabel("eps", fontsize=9)
    figure.align_ylabels(list(grid[:, 0]))
    return figure


def _is_known(scans: Mapping[str, EpsScan], name: str) -> bool:
    return any(getattr(row, name) is not None for scan in scans.values() for row in scan.rows)
