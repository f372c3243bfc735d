"""The charts of a report: what they show, by round. How they are drawn is in `drawing.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .chart import (
    BLUE,
    COLORS,
    GRAY,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    Chart,
    Series,
    Values,
)


def _chart(key: str, title: str, y: str, rounds: list[int], series: list[Series],
           **options: Any) -> Chart:  # fmt: skip
    known = [one for one in series if any(value is not None for value in one.values)]
    return Chart(key, title, y, rounds, known, **options)


def make_charts(figures: Mapping[str, Any]) -> dict[str, Chart]:
    """All charts that there are figures for, by key."""
    records = figures["rounds"]
    rounds = [record["round"] for record in records]

    def of(*path: str) -> Values:
        return [_number(record, path) for record in records]

    def share(*path: str) -> Values:
        return [None if value is None else 100 * value for value in of(*path)]

    views = figures["run"]["views"] or ["global"]
    charts = [
        *(_scores(figures, rounds, of, score) for score in ("mAP", "Rank-1")),
        *_labels(records, rounds, of),
        *_label_free(figures, rounds, of, views),
        *_with_identities(rounds, of, share),
        *_consistency(rounds, of),
        *_costs(records, rounds, of),
    ]
    return {chart.key: chart for chart in charts if not chart.is_empty}


def _number(record: Any, path: tuple[str, ...]) -> float | None:
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    is_number = isinstance(record, int | float) and not isinstance(record, bool)
    return record if is_number and abs(record) < float("inf") else None


def _scores(
    figures: Mapping[str, Any], rounds: list[int], of: Callable[..., Values], score: str
) -> Chart:
    """One score of all teachers, and what it was before the adaptation."""
    scores = figures["scores"]
    names = sorted(
        (key for key in {key for record in figures["rounds"] for key in record}
         if key == score or (key.startswith("teacher_") and key.endswith(f"/{score}"))),
        key=lambda key: (key != score, key),
    )  # fmt: skip
    series, levels = [], {}
    for name, color in zip(names, COLORS, strict=False):
        teacher = name.partition("/")[0].replace("_", " ") if name != score else "teacher 1"
        series.append(Series(teacher if len(names) > 1 else score, of(name), color))
    for key, title in (("direct_transfer", "direct transfer"), ("supervised", "supervised")):
        if scores[key].get(score) is not None:
            levels[title] = scores[key][score]
    key = {"mAP": "map", "Rank-1": "rank1"}[score]
    return _chart(key, score, "%", rounds, series, levels=levels)


def _names_in(records: list[dict[str, Any]], entry: str) -> list[str]:
    """The names in a mapping of all rounds, each once, as they come."""
    return list(dict.fromkeys(name for record in records for name in record.get(entry) or ()))


def _labels(
    records: list[dict[str, Any]], rounds: list[int], of: Callable[..., Values]
) -> list[Chart]:
    filters = _names_in(records, "kept_after")
    colors = dict(zip(filters, COLORS, strict=False))

    steps = [
        Series(name, [_first_kept(record, name) for record in records], colors.get(name, GRAY))
        for name in filters
    ]
    return [
        _chart("clusters", "Clusters that are trained on", "clusters", rounds,
               [Series("clusters", of("clusters"), BLUE)], from_zero=True),
        _chart("kept", "Images", "images", rounds,
               [Series("kept", of("kept"), BLUE), Series("left out", of("outliers"), ORANGE)],
               stacked=True),
        _chart("filters", "Images left after each filter", "images", rounds,
               steps if len(steps) > 1 else [], from_zero=True),
        _chart("eps", "Radius", "eps", rounds, [Series("eps", of("eps"), BLUE)]),
    ]  # fmt: skip


def _first_kept(record: dict[str, Any], name: str) -> float | None:
    """The images that a filter left of the first view."""
    counts = (record.get("kept_after") or {}).get(name)
    if not isinstance(counts, dict) or not counts:
        return None
    return _number(next(iter(counts.values())), ("images",))


def _label_free(
    figures: Mapping[str, Any], rounds: list[int], of: Callable[..., Values], views: list[str]
) -> list[Chart]:
    """Stability, cameras and silhouettes of all views."""
    images = figures["run"]["images"]
    stability, changed, cameras, silhouettes = [], [], [], []
    centroids = any(v is not None for v in of("quality", "silhouette/centroids"))
    kind = "silhouette/centroids" if centroids else "silhouette"
    for place, view in enumerate(views):
        prefix, color = f"{view}/" if place else "", COLORS[place % len(COLORS)]
        name = view if len(views) > 1 else ""
        stability.append(
            Series(name or "adjusted Rand index", of("quality", f"{prefix}stability_ari"), color)
        )
        if images:
            counts = of("quality", f"{prefix}changed")
            shares = [None if c is None else 100 * c / images for c in counts]
            changed.append(Series(name or "images that changed", shares, color))
        seen = of("quality", f"{prefix}cross_camera")
        cameras.append(
            Series(
                name or "clusters of 2 or more cameras",
                [None if v is None else 100 * v for v in seen],
                color,
            )
        )
        for key, when, dashed in (
            (kind, "kept images", False), (f"clusters/{kind}", "all clustered images", True)
        ):  # fmt: skip
            label = f"{name}: {when.split()[0]}" if name else when
            silhouettes.append(Series(label, of("quality", prefix + key), color, dashed))
    return [
        _chart("stability", "Agreement with the round before", "adjusted Rand index", rounds,
               stability),
        _chart("changed", "Images that are with others than before", "% of images", rounds,
               changed),
        _chart("cross_camera", "Clusters that are seen by 2 cameras or more", "% of clusters",
               rounds, cameras, limits=(0, 102)),
        _chart("silhouette", "Silhouette to centroids" if centroids else "Silhouette",
               "mean silhouette", rounds, silhouettes),
    ]  # fmt: skip


def _with_identities(
    rounds: list[int], of: Callable[..., Values], share: Callable[..., Values]
) -> list[Chart]:
    def quality(name: str) -> Values:
        return of("quality", name)

    mixed, broken, both = (share("quality", f"noise/{n}") for n in ("mixed", "fragmented", "both"))

    def without(values: Values) -> Values:
        pairs = zip(values, both, strict=True)
        return [None if a is None or b is None else max(0.0, a - b) for a, b in pairs]

    return [
        _chart("agreement", "Agreement with the identities", "score", rounds, [
            Series("NMI", quality("nmi"), BLUE), Series("ARI", quality("ari"), RED),
            Series("pair F1", quality("pair_f1"), GREEN),
            Series("purity", quality("purity"), PURPLE)], limits=(0, 1.02)),
        _chart("pairs", "Pairs of images: precision and recall", "share of pairs", rounds, [
            Series("precision, one camera", quality("pair_precision/within_camera"), BLUE),
            Series("recall, one camera", quality("pair_recall/within_camera"), BLUE, True),
            Series("precision, across cameras", quality("pair_precision/across_cameras"), RED),
            Series("recall, across cameras", quality("pair_recall/across_cameras"), RED, True)],
            limits=(0, 1.02)),
        _chart("noise", "Images with a noisy label", "% of kept images", rounds, [
            Series("mixed", without(mixed), ORANGE), Series("fragmented", without(broken), SKY),
            Series("both", both, PURPLE)], stacked=True),
        _chart("noisy_groups", "Clusters and identities with noise", "%", rounds, [
            Series("clusters of 2 or more identities",
                   share("quality", "noise/mixed_clusters"), ORANGE),
            Series("identities in 2 or more clusters",
                   share("quality", "noise/fragmented_identities"), SKY)], limits=(0, 102)),
        _chart("uncertainty", "Mean uncertainty", "uncertainty", rounds, [
            Series("right labels", quality("uncertainty/right"), BLUE),
            Series("wrong labels", quality("uncertainty/wrong"), RED),
            Series("all", quality("uncertainty/mean"), GRAY, True)]),
        _chart("uncertainty_auc", "How well uncertainty finds wrong labels",
               "area under the ROC curve", rounds,
               [Series("AUC", quality("uncertainty/auc"), BLUE)], levels={"chance": 0.5},
               limits=(0, 1.02)),
    ]  # fmt: skip


def _consistency(rounds: list[int], of: Callable[..., Values]) -> list[Chart]:
    """SECRET's Fig. 5: consistency, accuracy and mAP in one figure, before and after refinement."""
    map_share = [None if value is None else value / 100 for value in of("mAP")]
    accuracy = [
        Series("accuracy", of("quality", "accuracy"), GREEN),
        Series("accuracy of the clusters", of("quality", "clusters/accuracy"), GREEN, True),
    ]
    consistency = [
        Series("consistency", of("quality", "consistency"), PURPLE),
        Series("consistency of the clusters", of("quality", "clusters/consistency"), PURPLE, True),
    ]
    scores = [Series("mAP / 100", map_share, INK)]
    known = any(value is not None for one in (*accuracy, *consistency) for value in one.values)
    views = any(value is not None for one in consistency for value in one.values)
    return [
        _chart("consistency", "Consistency between views", "consistency", rounds, consistency,
               limits=(0, 1.02)),
        _chart("accuracy", "Accuracy and consistency" if views else "Accuracy of the labels",
               "share", rounds, [*accuracy, *consistency, *scores] if known else [],
               limits=(0, 1.02)),
    ]  # fmt: skip


def _costs(
    records: list[dict[str, Any]], rounds: list[int], of: Callable[..., Values]
) -> list[Chart]:
    stages = _names_in(records, "seconds")
    layers = [(name, of("seconds", name)) for name in stages]
    layers += [("train", of("train_seconds")), ("test", of("test_seconds"))]
    palette = (SKY, YELLOW, BLUE, GRAY, RED, PURPLE, ORANGE, GREEN, INK)
    series = [
        Series(name, values, palette[place % len(palette)])
        for place, (name, values) in enumerate(layers)
    ]
    return [
        _chart("seconds", "Time of each stage", "seconds", rounds, series, stacked=True),
        _chart("memory", "Most memory so far", "MiB", rounds,
               [Series("by the end of the round", of("peak_rss_mb"), BLUE)], from_zero=True),
    ]  # fmt: skip
