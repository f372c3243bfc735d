"""What a chart is, and the colours of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Okabe and Ito's colours, which colour-blind people can tell apart.
INK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#1b1f24", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GRAY, YELLOW = "#8a8f98", "#F0E442"
COLORS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, INK, GRAY)

Values = list[float | None]
"""One per round, None where there is none."""


@dataclass(frozen=True)
class Series:
    """One line, or one layer of stacked bars.

    Attributes:
        name: in the legend.
        values: one per round, None where there is none.
        color: `#rrggbb`.
        dashed: how a line is drawn.
    """

    name: str
    values: Values
    color: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Figures over rounds.

    Attributes:
        key: a short name, also that of its image in TensorBoard.
        title: what it shows.
        y: the label of the vertical axis.
        rounds: of the horizontal axis.
        series: in the order of the legend; empty ones are left out.
        stacked: bars on each other, not lines.
        from_zero: the vertical axis begins with 0.
        levels: names and heights of horizontal dashed lines.
        limits: of the vertical axis; None: by the values.
    """

    key: str
    title: str
    y: str
    rounds: list[int]
    series: list[Series]
    stacked: bool = False
    levels: Mapping[str, float] = field(default_factory=dict)
    from_zero: bool = False
    limits: tuple[float, float] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.series
