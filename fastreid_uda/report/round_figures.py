"""What is counted in the label file of a round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..labeling.label_silhouettes import OF_CENTROIDS, OF_PAIRS
from ..labeling.pipeline import Labeling
from ..labeling.quality import describe_labeling
from ..labeling.types import OUTLIER, PseudoLabels
from ..labeling.uncertainty_scores import right_and_wrong
from .run_folder import RoundArrays


def view_figures(labels: np.ndarray, camera_ids: np.ndarray | None) -> dict[str, Any]:
    """Sizes and cameras of the clusters of one view.

    Args:
        labels: (N,) int64, OUTLIER for images left out.
        camera_ids: (N,) integers, or None.

    Returns:
        `sizes`: images of each cluster, largest first; with camera ids `cameras_per_cluster`: how
        many clusters are seen by 1, 2, ... cameras, and `by_camera`: one entry of `camera`,
        `images`, `kept` and `clusters` (with an image of it) each.
    """
    kept = labels != OUTLIER
    sizes = np.unique(labels[kept], return_counts=True)[1]
    figures: dict[str, Any] = {"sizes": sorted(sizes.tolist(), reverse=True)}
    if camera_ids is None:
        return figures
    pairs = np.unique(np.stack([labels[kept], camera_ids[kept]]), axis=1)
    cameras, images = np.unique(camera_ids, return_counts=True)
    seen_by = np.unique(pairs[0], return_counts=True)[1]
    figures["cameras_per_cluster"] = np.bincount(seen_by, minlength=len(cameras) + 1)[1:].tolist()
    figures["by_camera"] = [
        {
            "camera": int(camera),
            "images": int(number),
            "kept": int(np.count_nonzero(kept & (camera_ids == camera))),
            "clusters": int(np.count_nonzero(pairs[1] == camera)),
        }
        for camera, number in zip(cameras, images, strict=True)
    ]
    return figures


def uncertainty_groups(arrays: RoundArrays) -> dict[str, np.ndarray]:
    """The uncertainties of a round: `right` and `wrong` labels, or `all` without identities.

    Empty if none was measured. Of the first view, its labels as the clusterer made them.
    """
    uncertainty, identities = arrays.fact("uncertainty"), arrays.fact("identities")
    if uncertainty is None:
        return {}
    if identities is None:
        return {"all": uncertainty[np.isfinite(uncertainty)]}
    finite = np.where(np.isfinite(uncertainty), uncertainty, np.nan)
    right, wrong = right_and_wrong(finite, arrays.clusters[arrays.first_view], identities)
    return {"right": right, "wrong": wrong}


def silhouette_kind(arrays: RoundArrays, records: Iterable[Mapping[str, Any]]) -> str | None:
    """Of what the silhouettes of a label file are, which the file does not say.

    A radius goes with pairs; else it is what the records of the run have, None if they have none.
    """
    if arrays.eps:
        return OF_PAIRS
    known = {kind for record in records for kind in record.get("quality") or {}}
    return next((kind for kind in (OF_CENTROIDS, OF_PAIRS) if kind in known), None)


def record_of(
    arrays: RoundArrays, previous: RoundArrays | None, silhouettes: str | None = None
) -> dict[str, Any]:
    """The record of a round that has labels but is not in summary.json yet, as far as it goes.

    Args:
        arrays: of the round.
        previous: of the round before.
        silhouettes: what `silhouette_kind` says; None leaves their means out.
    """
    before = _pseudo_labels(previous) if previous is not None else None
    if previous is not None and previous.num_images != arrays.num_images:
        before = None
    labels = _pseudo_labels(arrays)
    clusters = {view: _as_labels(x, None, None) for view, x in arrays.clusters.items()}
    labeling = Labeling(labels, clusters, arrays.eps, {}, {})
    facts = arrays.fact("camera_ids"), arrays.fact("identities")
    record = describe_labeling(labeling, *facts, before)
    for view, own in arrays.labels.items():
        values = arrays.silhouettes.get(view, np.zeros(0))
        kept = values[(own != OUTLIER) & ~np.isnan(values)] if len(values) else values
        if silhouettes and len(kept):
            prefix = "" if view == arrays.first_view else f"{view}/"
            record["quality"][prefix + silhouettes] = float(kept.mean())
    kept = ("clusters", "outliers", "kept", "eps", "quality")
    return {"round": arrays.number, "unfinished": True} | {name: record[name] for name in kept}


def _pseudo_labels(arrays: RoundArrays) -> Mapping[str, PseudoLabels]:
    first = arrays.first_view
    return {
        view: _as_labels(
            labels, arrays.fact("weights"), arrays.fact("uncertainty") if view == first else None
        )
        for view, labels in arrays.labels.items()
    }


def _as_labels(
    labels: np.ndarray, weights: np.ndarray | None, uncertainty: np.ndarray | None
) -> PseudoLabels:
    """Without centroids, which no figure needs."""
    labels = labels.astype(np.int64)
    weights = (labels != OUTLIER).astype(np.float32) if weights is None else weights
    nobody = np.zeros((int(labels.max(initial=OUTLIER)) + 1, 0), np.float32)
    return PseudoLabels(labels, nobody, weights, uncertainty)


def histogram_edges(values: list[np.ndarray], bins: int = 40) -> list[float]:
    """Edges from 0 on that hold 99.5 % of all values; what lies beyond counts in the last bin.

    Args:
        values: arrays of values of 0 or more, of all rounds.
        bins: at most.
    """
    joined = np.concatenate([np.zeros(1), *values]).astype(np.float64)
    largest = float(np.quantile(joined, 0.995)) or float(joined.max()) or 1.0
    edges: list[float] = np.linspace(0, largest, bins + 1).tolist()
    return edges


def counts_within(values: np.ndarray, edges: list[float]) -> list[int]:
    """How many values are in each bin; those beyond the last edge are in the last bin."""
    clipped = np.clip(values.astype(np.float64), edges[0], edges[-1])
    counts: list[int] = np.histogram(clipped, edges)[0].tolist()
    return counts


def size_bins(largest: int) -> list[tuple[int, int]]:
    """Bins for sizes of clusters, both ends included: one each below 12, then a quarter wider."""
    bins = []
    start = 1
    while start <= max(1, largest):
        stop = start if start < 12 else max(start + 1, int(start * 1.25))
        bins.append((start, stop))
        start = stop + 1
    return bins
