"""Draws charts: as SVG for a page that is light or dark, as pixels for TensorBoard."""

from __future__ import annotations

import io
import re

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .chart import INK, Chart

_GRID, _SOFT = "#d5d9e0", "#5f6773"
_VARIABLES = {INK: "--ink", _GRID: "--grid", _SOFT: "--soft"}
"""Colours that follow the page; the others are the same on light and dark, but for a few."""

_SIZE = (5.6, 3.2)  # inches of 72 units in the SVG


def to_svg(chart: Chart) -> str:
    """An `<svg>` element without a fixed size; its colours are variables of the page."""
    stream = io.StringIO()
    # The salt makes ids that are the same on every call.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.key}):
        _draw(chart).savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    text = stream.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{chart.key}" ', 1)
    # Ids are unique in a page.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart.key}-", svg)
    svg = re.sub(r"#[0-9a-fA-F]{6}\b", _as_variable, svg)
    return svg.strip()


def _as_variable(match: re.Match[str]) -> str:
    color = match[0].lower()
    known = {name.lower(): variable for name, variable in _VARIABLES.items()}
    return f"var({known.get(color, '--c' + color[1:])}, {color})"


def to_pixels(chart: Chart) -> np.ndarray:
    """(H, W, 3) uint8 on white."""
    return _pixels(_draw(chart))


def map_to_pixels(places: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a map of images, those of a group in one of twenty colours.

    Args:
        places: (M, 2).
        groups: (M,) integers; negative ones are gray, below the others.
    """
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    known, (x, y) = groups >= 0, places.T
    axes.scatter(x[~known], y[~known], s=6, color=_GRID)
    axes.scatter(x[known], y[known], s=6, c=groups[known] % 20, cmap="tab20", vmin=0, vmax=19)
    axes.set_axis_off()
    axes.set_aspect("equal")
    return _pixels(figure)


def _pixels(figure: Figure) -> np.ndarray:
    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw(chart: Chart) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained", dpi=72)
    axes = figure.subplots()
    (_bars if chart.stacked else _lines)(axes, chart)
    for (name, height), dashes in zip(chart.levels.items(), ((6, 3), (1.5, 2)), strict=False):
        axes.axhline(height, color=_SOFT, linewidth=1.2, dashes=dashes, label=name, zorder=1)
    axes.set_xlabel("round", color=_SOFT, fontsize=10)
    axes.set_ylabel(chart.y, color=_SOFT, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    if all(float(value).is_integer() for value in _values(chart)):
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.tick_params(colors=_SOFT, labelsize=9.5, length=0, pad=5)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    if chart.limits:
        axes.set_ylim(*chart.limits)
    elif chart.stacked or chart.from_zero:
        axes.set_ylim(0, 1.06 * axes.get_ylim()[1] if any(_values(chart)) else 1)
    elif len(set(_values(chart))) == 1:  # a flat line lies in the middle
        axes.margins(y=0.5)
    if chart.y.startswith("%"):
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high, 102))  # no share is more than 100 %
    margin = 0.6 if chart.stacked or len(chart.rounds) == 1 else 0.25
    axes.set_xlim(min(chart.rounds) - margin, max(chart.rounds) + margin)
    figure.legend(
        loc="outside upper left", ncols=2 if _is_wide(chart) else 3, frameon=False, fontsize=9.5,
        labelcolor=INK, handlelength=2.7, columnspacing=1.6, borderaxespad=0.1,
    )  # fmt: skip
    return figure


def _is_wide(chart: Chart) -> bool:
    names = [series.name for series in chart.series] + list(chart.levels)
    return max(map(len, names)) > 16


def _values(chart: Chart) -> list[float]:
    values = [v for series in chart.series for v in series.values if v is not None]
    return values + list(chart.levels.values())


def _lines(axes: Axes, chart: Chart) -> None:
    """Gaps where a round has no value; a dot for each one that there is, if they are not many."""
    marker = "o" if len(chart.rounds) <= 30 else ""
    for series in chart.series:
        values = [np.nan if value is None else value for value in series.values]
        axes.plot(
            chart.rounds, values, marker=marker or ("." if _is_sparse(values) else None),
            markersize=4.2, linewidth=1.9, color=series.color, label=series.name,
            linestyle=(0, (4, 2)) if series.dashed else "-", solid_capstyle="round", zorder=3,
        )  # fmt: skip


def _is_sparse(values: list[float]) -> bool:
    """Whether a value stands between two gaps, where a line alone would not show it."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    return bool((known[1:-1] & ~known[:-2] & ~known[2:]).any())


def _bars(axes: Axes, chart: Chart) -> None:
    below = np.zeros(len(chart.rounds))
    for series in chart.series:
        heights = np.array([0.0 if value is None else value for value in series.values])
        axes.bar(
            chart.rounds, heights, bottom=below, width=0.74, color=series.color,
            label=series.name, zorder=3,
        )  # fmt: skip
        below += heights
