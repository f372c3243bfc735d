"""MSPLR: train only on clusters that are large enough and seen by more than one camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix

from ...errors import UserError
from ..cameras import require_cameras
from ..types import OUTLIER, PseudoLabels, renumber
from .base import REFINERS, RefinerInputs


@REFINERS.register
@dataclass(frozen=True)
class MSPLR:
    """Multi-step pseudo-label refinement: the cluster selection of section 3.4.

    The paper's other half, the camera-guided feature normalisation (Eq. 4), acts before the
    clustering and is the option `UDA.CAMERA_NORMALIZATION`, open to every refiner.

    Reference: Pereira and de Campos, "Learn by Guessing: Multi-Step Pseudo-Label Refinement for
    Person Re-Identification", section 3.4. No code of the authors is public.
    """

    min_images: int = 4  # clusters with fewer images are left out, K of the PK sampling; 1 or more
    min_cameras: int = 2  # clusters seen by fewer cameras are left out; 1 or more

    def __post_init__(self) -> None:
        for name in ("min_images", "min_cameras"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"UDA.MSPLR.{name.upper()} is {getattr(self, name)}, but it must be 1 or more."
                )

    def refine(self, inputs: RefinerInputs) -> Mapping[str, PseudoLabels]:
        """Drop the small and the single-camera clusters and close the gaps in the numbering."""
        *_, refined = self.filters(inputs).values()
        return refined

    def filters(self, inputs: RefinerInputs) -> dict[str, Mapping[str, PseudoLabels]]:
        """The labels without the small clusters, and those without the single-camera ones too."""
        labels: Mapping[str, PseudoLabels] = {
            view: select_clusters(raw, cluster_sizes(raw) >= self.min_images)
            for view, raw in inputs.clusters.items()
        }
        steps = {"MIN_IMAGES": labels}
        if self.min_cameras > 1:
            camera_ids = self._require_cameras(inputs.features.camera_ids)
            steps["MIN_CAMERAS"] = {
                view: select_clusters(
                    large, cameras_per_cluster(large, camera_ids) >= self.min_cameras
                )
                for view, large in labels.items()
            }
        return steps

    def check_cameras(self, camera_ids: np.ndarray | None) -> None:
        """Raise a `UserError` unless there are as many cameras as a cluster has to have."""
        if self.min_cameras > 1:
            self._require_cameras(camera_ids)

    def _require_cameras(self, camera_ids: np.ndarray | None) -> np.ndarray:
        advice = "MSPLR selects clusters by their cameras; set UDA.MSPLR.MIN_CAMERAS to 1"
        return require_cameras(camera_ids, self.min_cameras, advice)


def cluster_sizes(labels: PseudoLabels) -> np.ndarray:
    """(K,) number of images of each cluster."""
    return np.bincount(labels.labels[labels.kept], minlength=labels.num_classes)


def cameras_per_cluster(labels: PseudoLabels, camera_ids: np.ndarray) -> np.ndarray:
    """(K,) number of different cameras that see each cluster."""
    cameras, camera_index = np.unique(camera_ids, return_inverse=True)
    kept = labels.kept
    seen = coo_matrix(
        (np.ones(int(kept.sum())), (labels.labels[kept], camera_index[kept])),
        shape=(labels.num_classes, len(cameras)),
    )
    return np.asarray((seen.tocsr() > 0).sum(axis=1)).ravel()


def select_clusters(raw: PseudoLabels, selected: np.ndarray) -> PseudoLabels:
    """The labels of the selected clusters, renumbered 0..K'-1; all other images are outliers.

    Args:
        raw: labels of K clusters.
        selected: (K,) bool.
    """
    keep = raw.kept.copy()
    keep[keep] = selected[raw.labels[keep]]
    labels, old = renumber(np.where(keep, raw.labels, OUTLIER))
    weights = np.where(keep, raw.weights, 0).astype(np.float32)
    return replace(raw, labels=labels, centroids=raw.centroids[old], weights=weights)
