"""The page: one HTML file that needs nothing from elsewhere."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from .chart import BLUE, GREEN, ORANGE, RED, SKY, Chart
from .drawing import to_svg
from .round_figures import size_bins
from .thumbnails import Thumbnails

_TO = "\N{EN DASH}"
_FILES = ("report.html", "report.css", "report.js")


def make_page(
    figures: Mapping[str, Any],
    charts: Mapping[str, Chart],
    pictures: Thumbnails,
    json_name: str = "report.json",
) -> str:
    """The text of the page.

    Args:
        figures: of report.json.
        charts: of `make_charts`.
        pictures: made of all images that `figures["sheets"]` names.
        json_name: of the file beside the page that holds its figures.
    """
    folder = resources.files(__package__) / "templates"
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in _FILES}
    environment = Environment(
        loader=DictLoader(texts), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": _number, "path": _printable}
    page = environment.get_template("report.html").render(
        figures=figures,
        charts={key: Markup(to_svg(chart)) for key, chart in charts.items()},
        titles={key: chart.title for key, chart in charts.items()},
        tables={key: _table(chart) for key, chart in charts.items()},
        pictures=pictures,
        tiles=headline(figures),
        css=Markup(texts["report.css"]),
        script=Markup(texts["report.js"]),
        data=Markup(_as_script(_page_data(figures))),
        stages=_stages(figures["rounds"]),
        json_name=json_name,
        underway=round_under_way(figures),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _table(chart: Chart) -> dict[str, Any]:
    """The figures of a chart: `names` of the columns and `rows` of the round and its values."""
    columns = [series.values for series in chart.series]
    rows = [[number, *values] for number, *values in zip(chart.rounds, *columns, strict=True)]
    return {"names": [series.name for series in chart.series], "rows": rows}


def _as_script(data: Any) -> str:
    """JSON that cannot end the element it is in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _number(value: Any, digits: int = 1) -> str:
    """A figure for people: 1,236, 27.9 or, where it would be 0.0, 0.0012; a dash where none is."""
    if value is None:
        return _TO
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if 0 < abs(value) < 10**-digits else f"{value:,.{digits}f}"


def _printable(text: str | None) -> str:
    """A path of any bytes as text."""
    return (text or "").encode("utf-8", "replace").decode("utf-8")


def headline(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few figures to begin with: `name`, `value` and a `note` each."""
    tiles = _score_tiles(figures)
    last = figures["rounds"][-1]
    of_last = f"round {last['round']}"
    if last.get("clusters") is not None:
        identities = figures["run"]["identities"]
        note = f"in {of_last}" + (f", of {identities:,} identities" if identities else "")
        tiles.append({"name": "clusters", "value": f"{last['clusters']:,}", "note": note})
    if last.get("kept") is not None and last.get("outliers") is not None:
        images = last["kept"] + last["outliers"]
        value = f"{100 * last['kept'] / max(1, images):.0f} %"
        note = f"{last['kept']:,} of {images:,} in {of_last}"
        tiles.append({"name": "images kept", "value": value, "note": note})
    quality = last.get("quality") or {}
    for key, name, note in (
        ("nmi", "NMI", "with the identities, 1 is perfect"),
        ("silhouette", "silhouette", "of kept images, from -1 to 1"),
        ("silhouette/centroids", "silhouette", "to centroids, from -1 to 1"),
    ):
        if quality.get(key) is not None:
            value = f"{quality[key]:.2f}"
            tiles.append({"name": name, "value": value, "note": f"of {of_last}, {note}"})
    return tiles


def _score_tiles(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    scores, tested, tiles = figures["scores"], figures["last_round"], []
    transfer = scores["direct_transfer"]
    for name in ("mAP", "Rank-1"):
        value = scores["last"].get(name)
        if value is None:
            continue
        before = transfer.get(name)
        note = "after the last round that was tested" if tested is None else f"after round {tested}"
        if before is not None:
            note += f", {value - before:+.1f} against direct transfer ({before:.1f})"
        several = f"teacher_2/{name}" in scores["last"]
        title = f"{name}, teacher 1" if several else name
        tiles.append({"name": title, "value": f"{value:.1f} %", "note": note})
    best = scores["best"].get("mAP")
    if best is not None and best != scores["last"].get("mAP"):
        known = figures["best_round"] is not None
        note = (f"round {figures['best_round']}, " if known else "") + "chosen with test labels"
        tiles.append({"name": "best mAP", "value": f"{best:.1f} %", "note": note})
    return tiles


def round_under_way(figures: Mapping[str, Any]) -> int | None:
    """The last round, if it has labels but is not in the summary of the run yet."""
    last, has_summary = figures["rounds"][-1], figures["run"]["method"] is not None
    return last["round"] if last.get("unfinished") and has_summary else None


def _stages(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time and memory of the stages of the last round that has them: `name`, `seconds`, `peak`."""
    timed = [record for record in records if record.get("seconds")]
    if not timed:
        return []
    last = timed[-1]
    peaks = last.get("peak_mb") or {}
    rows = [{"name": n, "seconds": s, "peak": peaks.get(n)} for n, s in last["seconds"].items()]
    for name in ("train", "test"):
        if last.get(f"{name}_seconds") is not None:
            rows.append({"name": name, "seconds": last[f"{name}_seconds"], "peak": None})
    return rows


def _page_data(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the script of the page draws: histograms by round, and the map."""
    return {
        "histograms": {
            "sizes": _sizes(figures["labels"]),
            "cameras": _cameras(figures["labels"]),
            "by_camera": _by_camera(figures["labels"]),
            "uncertainty": _uncertainty(figures["uncertainty"]),
        },
        "map": figures["map"],
    }


def _series(name: str, values: list[float], color: str = BLUE) -> dict[str, Any]:
    return {"name": name, "values": values, "color": color}


def _sizes(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    largest = max((f["sizes"][0] for e in entries for f in e["views"].values() if f["sizes"]),
                  default=0)  # fmt: skip
    if not largest:
        return None
    bins = size_bins(largest)
    labels = [str(a) if a == b else f"{a}{_TO}{b}" for a, b in bins]

    def count(sizes: list[int]) -> list[float]:
        return [sum(a <= size <= b for size in sizes) for a, b in bins]

    rounds = [
        {"round": entry["round"],
         "views": {v: [_series("clusters", count(f["sizes"]))] for v, f in entry["views"].items()}}
        for entry in entries
    ]  # fmt: skip
    ranges = [low for low, high in bins if low < high]
    x = "images of the cluster" + (f"; from {ranges[0]} on a bar is a range" if ranges else "")
    return {"labels": labels, "x": x, "y": "clusters", "rounds": rounds}


def _cameras(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    known = [e for e in entries if all("cameras_per_cluster" in f for f in e["views"].values())]
    if not known:
        return None
    most = max(len(f["cameras_per_cluster"]) for e in known for f in e["views"].values())
    rounds = [
        {"round": entry["round"],
         "views": {v: [_series("clusters", f["cameras_per_cluster"], GREEN)]
                   for v, f in entry["views"].items()}}
        for entry in known
    ]  # fmt: skip
    labels = [str(number) for number in range(1, most + 1)]
    return {"labels": labels, "x": "cameras of the cluster", "y": "clusters", "rounds": rounds}


def _by_camera(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    known = [e for e in entries if all("by_camera" in f for f in e["views"].values())]
    if not known:
        return None
    cameras = sorted({c["camera"] for e in known for f in e["views"].values()
                      for c in f["by_camera"]})  # fmt: skip

    def shares(entry: list[dict[str, Any]]) -> list[float]:
        kept = {c["camera"]: 100 * c["kept"] / max(1, c["images"]) for c in entry}
        return [round(kept.get(camera, 0.0), 2) for camera in cameras]

    rounds = [
        {"round": entry["round"],
         "views": {v: [_series("kept", shares(f["by_camera"]), SKY)]
                   for v, f in entry["views"].items()}}
        for entry in known
    ]  # fmt: skip
    return {"labels": [str(camera) for camera in cameras], "x": "camera",
            "y": "% of its images kept", "most": 100, "rounds": rounds}  # fmt: skip


def _uncertainty(histograms: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if histograms is None:
        return None
    edges = histograms["edges"]
    colors = {"right": BLUE, "wrong": RED, "all": ORANGE}

    def shares(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
        series = []
        for name in (name for name in colors if name in entry):
            total = sum(entry[name])
            values = [round(100 * count / max(1, total), 3) for count in entry[name]]
            title = f"{name} labels, {total:,} images" if name != "all" else f"{total:,} images"
            series.append(_series(title, values, colors[name]))
        return series

    labels = [f"{low:.3g} {_TO} {high:.3g}" for low, high in itertools.pairwise(edges)]
    labels[-1] = f"{edges[-2]:.3g} and more"
    rounds = [{"round": e["round"], "views": {"": shares(e)}} for e in histograms["rounds"]]
    return {"labels": labels, "ticks": [round(edge, 4) for edge in edges], "x": "uncertainty",
            "y": "% of the group", "rounds": rounds}  # fmt: skip
