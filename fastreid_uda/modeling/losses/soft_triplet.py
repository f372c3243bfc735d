"""Soft triplet loss: the student orders its hardest pairs as firmly as the teacher does."""

from __future__ import annotations

import torch

from .base import LOSSES, Loss
from .cross_entropy import cross_entropy


@LOSSES.register
class SoftTripletLoss(Loss):
    """Cross-entropy between the two-way softmaxes of teacher and student over (d_p, d_n).

    See `soft_triplet`. With a teacher that is sure of d_n > d_p it is the hard triplet loss with
    margin 0, log(1 + exp(d_p - d_n)).

    Reference: Ge, Chen, Li, "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain
    Adaptation on Person Re-identification", ICLR 2020, https://arxiv.org/abs/2001.01526;
    MMT:mmt/loss/triplet.py. Also used by SECRET (He et al., AAAI 2022).

    Args:
        scale: weight of the loss.
    """

    node = "SOFT_TRI"
    label = "loss_soft_triplet"
    reads = ("features",)
    needs_teacher = True
    uses_weights = True

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch; the features are not normalised."""
        assert teacher is not None  # needs_teacher
        student_features, teacher_features = outputs["features"], teacher["features"]
        return self.scale * soft_triplet(
            student_features.float(), teacher_features.float(), targets, weights
        )


def soft_triplet(
    student_features: torch.Tensor,
    teacher_features: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """-sum_{j in {p, n}} softmax(d_teacher)_j log softmax(d_student)_j, averaged over the batch.

    p and n are the hardest pairs of the student, see `hardest_pairs`; d are Euclidean distances.

    Args:
        student_features: (B, D).
        teacher_features: (B, D) of the same images; no gradient flows to them.
        targets: (B,) labels.
        weights: (B,) trust in each label; the mean stays over B.
    """
    positives, negatives = hardest_pairs(student_features, targets)
    student = _pair_distances(student_features, positives, negatives)
    teacher = _pair_distances(teacher_features.detach(), positives, negatives)
    loss = cross_entropy(student, teacher.softmax(dim=1), weights)
    # An anchor lacks a negative when the whole batch has one label, which happens to the labels of
    # a local view, as batches are drawn by the global ones: there is nothing to order, so the loss
    # is 0. The published code adds 1e7 to the distance of the missing negative there, which gives a
    # loss of millions and a gradient that drives the positives apart.
    return loss * (targets != targets[0]).any()


@torch.no_grad()
def hardest_pairs(
    features: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The farthest positive and the nearest negative of each image, (B,) indices each.

    An image counts as its own positive. Of equally far images the first is taken. Without any
    negative in the batch the second index is 0.
    """
    # Not through a matrix product: it loses small distances between long features, more so in the
    # half precision of autocast.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    same = targets[:, None] == targets
    positives = distances.masked_fill(~same, -torch.inf).argmax(dim=1)
    return positives, distances.masked_fill(same, torch.inf).argmin(dim=1)


def _pair_distances(
    features: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    """(B, 2) distances d_p, d_n; where below 1e-6, they are 1e-6 with gradient 0."""
    differences = torch.stack((features - features[positives], features - features[negatives]), 1)
    return differences.square().sum(dim=2).clamp(min=1e-12).sqrt()
