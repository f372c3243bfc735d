"""Feature files in, label files out: the formats of tools/label_features.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import atomic_write
from ..npz import read_npz
from .pipeline import Labeling
from .types import FeatureSet, weights_in_all

_FACTS = ("camera_ids", "identities")


def read_feature_set(path: str | Path) -> tuple[FeatureSet, np.ndarray | None]:
    """Features and, if the file has them, true identities.

    Args:
        path: an .npz with one float array (N, D) per view under the view's name, `global` at least,
            and optionally the integer arrays `camera_ids` and `identities`, (N,). A float array
            (N, D) whose name contains "/" is no view but an extra, e.g. `student/global`.

    Returns:
        `global` as the first view, the others in the order of the file.

    Raises:
        UserError: one sentence that names the file, and the array if one is to blame.
    """
    arrays = read_npz(path)
    views = {name: values for name, values in arrays.items() if name not in _FACTS}
    if "global" not in views:
        held = ", ".join(map(repr, arrays)) or "nothing"
        raise UserError(f"{path}: the array 'global' is missing (there is {held}); add it.")
    views = {"global": views["global"], **views}
    if views["global"].ndim == 2 and not len(views["global"]):
        raise UserError(
            f"{path}: 'global' has no images (shape {views['global'].shape}); save some."
        )
    for name, values in views.items():
        if values.ndim != 2 or values.dtype.kind != "f" or not values.size:
            kind = "an array with '/' in its name" if "/" in name else "a view"
            raise UserError(
                f"{path}: '{name}' is {values.dtype} of shape {values.shape}, but {kind} is a "
                "float array of shape (images, dimensions)."
            )
    rows = len(views["global"])
    for name, values in arrays.items():
        if name in _FACTS and (values.ndim != 1 or values.dtype.kind not in "iu"):
            raise UserError(
                f"{path}: '{name}' is {values.dtype} of shape {values.shape}, but must be integers "
                "of shape (images,)."
            )
        if len(values) != rows:
            raise UserError(
                f"{path}: '{name}' has {len(values)} entries but 'global' has {rows} rows; every "
                "image needs one."
            )
    facts = {name: arrays[name].astype(np.int64) for name in _FACTS if name in arrays}
    with np.errstate(over="ignore"):  # infinity is found by the pipeline
        arrays = {name: x.astype(np.float32, copy=False) for name, x in views.items()}
    extras = {name: arrays.pop(name) for name in views if "/" in name}
    return FeatureSet(arrays, facts.get("camera_ids"), extras), facts.get("identities")


def write_feature_set(
    path: str | Path, features: FeatureSet, identities: np.ndarray | None = None
) -> None:
    """Write features in the form that `read_feature_set` reads; a `UserError` if that fails."""
    arrays = {**features.views, **features.extras}
    facts = {"camera_ids": features.camera_ids, "identities": identities}
    arrays |= {name: values for name, values in facts.items() if values is not None}
    try:
        with atomic_write(str(path)) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error


def read_uncertainty(
    path: str | Path, identities: str | Path | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Uncertainty (N,), cluster (N,) and true identity (N,) of each image of a label file.

    Args:
        path: of the file, as `labeling_to_arrays` makes it.
        identities: a file with the array `identities`, if the first has none.

    Raises:
        UserError: one sentence that names the file, and the array that is to blame.
    """
    arrays = read_npz(path)
    if identities:
        arrays |= read_npz(identities, ["identities"])
    clusters = next((name for name in arrays if name.startswith("clusters/")), "clusters/global")
    for name, kinds in (("uncertainty", "f"), (clusters, "iu"), ("identities", "iu")):
        if name not in arrays:
            advice = "give --identities" if name == "identities" else "P2LR and INCLR write it"
            raise UserError(f"{path}: '{name}' is missing; {advice}.")
        values = arrays[name]
        if values.dtype.kind not in kinds or values.ndim != 1:
            kind = "floats" if kinds == "f" else "integers"
            raise UserError(
                f"{identities or path}: '{name}' is {values.dtype} of shape {values.shape}, but "
                f"must be {kind} of shape (images,)."
            )
        if len(values) != len(arrays["uncertainty"]):
            raise UserError(
                f"{identities or path}: '{name}' and 'uncertainty' differ in length; take one "
                "image list."
            )
    return arrays["uncertainty"], arrays[clusters], arrays["identities"]


def labeling_to_arrays(
    labeling: Labeling,
    identities: np.ndarray | None = None,
    camera_ids: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The labeling of a round as named arrays.

    Args:
        labeling: of the round.
        identities: (N,) true identities, for analysis of the file.
        camera_ids: (N,) integers, likewise.

    Returns:
        `labels/<view>`, `clusters/<view>`, `centroids/<view>`, `eps/<view>` and `weights`, those of
        the training set; `uncertainty` of the labels of the first view if a refiner measured it;
        `silhouette/<view>`, float16, of each image in its label or in the cluster that a refiner
        took it out of, 0 where it is in neither; of the map of features, if there is one,
        `map/rows`, `map/features` and `map/variance`, see `FeatureMap`; `identities` and
        `camera_ids` if they are given.
    """
    arrays = {f"labels/{view}": part.labels for view, part in labeling.labels.items()}
    arrays |= {f"clusters/{view}": part.labels for view, part in labeling.clusters.items()}
    arrays |= {f"centroids/{view}": part.centroids for view, part in labeling.labels.items()}
    arrays |= {f"eps/{view}": np.array(value) for view, value in labeling.eps.items()}
    first, *_ = labeling.labels.values()
    arrays["weights"] = weights_in_all(labeling.labels)
    if first.uncertainty is not None:
        arrays["uncertainty"] = first.uncertainty
    arrays |= {
        f"silhouette/{view}": np.nan_to_num(part.of_images).astype(np.float16)
        for view, part in labeling.silhouettes.items()
    }
    if labeling.feature_map is not None:
        arrays |= {f"map/{name}": np.asarray(x) for name, x in vars(labeling.feature_map).items()}
    facts = {"identities": identities, "camera_ids": camera_ids}
    arrays |= {name: values for name, values in facts.items() if values is not None}
    return arrays
