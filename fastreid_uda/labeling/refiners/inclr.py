"""INCLR: global labels that the parts confirm, weighted by the agreement of teacher and student."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ..camera_normalization import normalize_rows
from ..types import PseudoLabels, kept_in_all
from ..uncertainty import divergence_between
from .base import REFINERS, STUDENT, RefinerInputs, check_extras
from .secret import DENOMINATORS, GLOBAL, keep_images, mutual_refinement

logger = logging.getLogger(__name__)

LABELS = ("shared", "per_branch")
"""Which labels the views beside the global one train on."""

SMALL_WEIGHT = 0.05
"""A mean weight below it means that hardly anything is learnt from the weighted losses."""


@REFINERS.register
@dataclass(frozen=True)
class INCLR:
    """Intensified consistency with pseudo-label refinement: LGMR, then IGMO.

    LGMR, the local and global mutual refinement: of the global clusters only the images are kept on
    which every other view agrees, by the rule of SECRET. "Local and global features share the same
    pseudo label" (III-A): all views then train on the refined global labels. With `per_branch` each
    view keeps labels of its own, as in SECRET.

    IGMO, the inaccuracy-guided mutual optimisation: the weight of an image is exp(-I), and I is the
    divergence between the classes that teacher and student see in it (Eq. 4 to 6). The print of
    Eq. 6 lost which is which; KL(teacher || student) is that of UNRN, where the weight comes from.
    In the first round the students are the teachers: I is 0 and all weights are 1.

    Reference: "Intensified Consistency with Pseudo Label Refinement" (INCLR), sections III-A and
    III-B. No code of the authors is public.
    """

    lgmr: bool = True  # refine the global labels by those of the parts
    igmo: bool = True  # weight each image by exp(-divergence between teachers and students)
    k: float = 0.4  # as that of SECRET; the paper prints none
    denominator: str = "valid"  # as that of SECRET
    # all views train on the refined global labels (`shared`), or each on its own (`per_branch`)
    labels: str = "shared"
    beta: float = 20.0  # scale of the cosines in Eq. 4 and 5, an inverse temperature

    extras_key: ClassVar[str] = "UDA.INCLR.IGMO"

    def __post_init__(self) -> None:
        if not 0 < self.k < 1:
            raise UserError(f"UDA.INCLR.K is {self.k}, but it must lie between 0 and 1.")
        if not 0 < self.beta < math.inf:
            raise UserError(f"UDA.INCLR.BETA is {self.beta}, but it must be above 0.")
        for key, name, known in (
            ("DENOMINATOR", self.denominator, DENOMINATORS),
            ("LABELS", self.labels, LABELS),
        ):
            if name not in known:
                raise UserError(
                    f"UDA.INCLR.{key} is {name!r}, but the known values are: {', '.join(known)}."
                )

    @property
    def extras(self) -> tuple[str, ...]:
        """The student's features, for IGMO."""
        return (STUDENT,) if self.igmo else ()

    def check_views(self, views: Sequence[str]) -> None:
        """Raise a `UserError` unless there is a global view and, for LGMR, one to refine it."""
        if GLOBAL not in views:
            raise UserError(f"INCLR needs the view 'global', got {list(views)}; add it.")
        if self.lgmr and len(views) < 2:
            raise UserError(
                "INCLR refines the labels of 'global' by those of other views, but there is none; "
                "set MODEL.HEADS.NAME to MultiViewHead, add views to the feature file, or set "
                "UDA.INCLR.LGMR to False."
            )

    def refine(self, inputs: RefinerInputs) -> Mapping[str, PseudoLabels]:
        """Drop the images without agreement of the views, weigh the others by their inaccuracy."""
        self.check_views(tuple(inputs.clusters))
        check_extras(self, inputs.features)
        refined = self._refine_labels(inputs)
        if not self.igmo:
            return refined
        inaccuracy = self._inaccuracy(inputs, refined)
        return {view: part.weigh(inaccuracy) for view, part in refined.items()}

    def _refine_labels(self, inputs: RefinerInputs) -> dict[str, PseudoLabels]:
        """LGMR: the labels of every view, with centroids of its own over the images it keeps."""
        clusters, features = inputs.clusters, inputs.features.views
        keep = {view: raw.kept for view, raw in clusters.items()}
        if self.lgmr:
            labels = {view: raw.labels for view, raw in clusters.items()}
            parts = [view for view in labels if view != GLOBAL]
            keep = mutual_refinement(labels, parts, self.k, self.denominator)
        if self.labels == "shared":
            raw = clusters[GLOBAL]
            return {view: keep_images(raw, keep[GLOBAL], features[view]) for view in clusters}
        if not self.lgmr:
            return dict(clusters)
        return {v: keep_images(raw, keep[v], features[v]) for v, raw in clusters.items()}

    def _inaccuracy(self, inputs: RefinerInputs, refined: Mapping[str, PseudoLabels]) -> np.ndarray:
        """IGMO: I of the images of the training set, (N,) float32, NaN elsewhere."""
        trained = refined[GLOBAL].drop(~kept_in_all(refined))
        teacher, student = inputs.features.views[GLOBAL], inputs.features.extras[STUDENT]
        # p~ = softmax(beta v f~) of the teacher and p = softmax(beta v f) of the student, with the
        # refined global centroids for v; I = KL(p~ || p).
        divergence = divergence_between(teacher, normalize_rows(student), trained, self.beta)
        inaccuracy = divergence.astype(np.float32)
        weights = np.exp(-inaccuracy[trained.kept])
        if len(weights) and weights.mean() < SMALL_WEIGHT:
            logger.warning(
                "INCLR: the mean weight is %.2g, teacher and student see different classes; the "
                "weighted losses hardly learn. Lower UDA.INCLR.BETA (%g)?",
                weights.mean(), self.beta,
            )  # fmt: skip
        return inaccuracy
