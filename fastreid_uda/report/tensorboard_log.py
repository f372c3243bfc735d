"""The figures of a report for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .chart import Chart
from .content import Content
from .drawing import map_to_pixels, to_pixels


def write_tensorboard(content: Content, charts: Mapping[str, Chart], folder: Path) -> None:
    """Write scalars, histograms and charts; the step is the round.

    What an earlier report has written there is removed, since TensorBoard would show both.

    Args:
        content: of the report.
        charts: of `make_charts`.
        folder: made if need be.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes seconds

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for record in content.figures["rounds"]:
            for name, value in _scalars(record):
                writer.add_scalar(f"report/{name}", value, record["round"])
        for entry in content.figures["labels"]:
            for view, figures in entry["views"].items():
                _write_clusters(writer, view, figures, entry["round"])
        for entry in (content.figures["map"] or {"rounds": []})["rounds"]:
            places = np.stack([entry["x"], entry["y"]], axis=1)
            colors = np.array(entry["identity" if "identity" in entry else "cluster"])
            pixels = map_to_pixels(places, colors)
            writer.add_image("map", pixels, entry["round"], dataformats="HWC")
        for number, groups in content.uncertainties.items():
            for name, values in groups.items():
                if len(values):
                    writer.add_histogram(f"uncertainty/{name}", values, number)
        last = max((record["round"] for record in content.figures["rounds"]), default=0)
        for key, chart in charts.items():
            writer.add_image(f"charts/{key}", to_pixels(chart), last, dataformats="HWC")


def _write_clusters(writer: Any, view: str, figures: Mapping[str, Any], number: int) -> None:
    """What `view_figures` says of one view in one round."""
    sizes = figures["sizes"]
    cameras = figures.get("cameras_per_cluster", [])
    cameras = np.repeat(np.arange(1, len(cameras) + 1), cameras)
    for name, values in (("cluster_sizes", sizes), ("cameras_per_cluster", cameras)):
        if len(values):
            writer.add_histogram(f"{name}/{view}", np.array(values), number)
    for entry in figures.get("by_camera", []):
        share = entry["kept"] / entry["images"]
        writer.add_scalar(f"kept_by_camera/{view}/{entry['camera']}", share, number)


def _scalars(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """All numbers of a record, those of mappings in it under `mapping/name`."""
    found: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            inner = "" if name == "quality" else f"{prefix}{name}/"
            found += _scalars(value, inner)
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "round":
            found.append((prefix + name, float(value)))
    return found
