"""INCLR's third loss: the labels that teacher and student agree about count most."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ...errors import UserError
from .base import LOSSES, Loss, weighted_mean


@LOSSES.register
class INCLRLoss(Loss):
    """L_KL, the "uncertainty-guided KL divergence loss", in three readings of the paper's Eq. 7.

    Printed is (1/n) sum_i w_i log p(y_i || x_i), with the credibility w_i = exp(-I_i) of the label
    y_i. Below, z are logits without margin, S is the student and T what teaches it; the means are
    over the batch. The paper has this loss on the global view.

    - `weighted_ce`: mean_i w_i (-log softmax(z_S)[y_i]). Eq. 7 to the letter, with the minus that
      it lacks; the text explains p as the probability that x_i is of class y_i, and w_i belongs to
      the identity loss in UNRN, from which it comes.
    - `weighted_soft`: mean_i w_i KL(softmax(z_T) || softmax(z_S)). The name says KL, and the weight
      0.5 is that of mutual mean-teaching's soft loss.
    - `regulariser`: mean_i KL(softmax(z_T) || softmax(z_S)), without the weights. The paper says
      that lambda_KL prevents a large inaccuracy, which describes UNRN's regulariser.

    Reference: INCLR, "Intensified Consistency with Pseudo Label Refinement", Eq. 7 and 8. UNRN:
    Zheng et al., "Exploiting Sample Uncertainty for Domain Adaptive Person Re-Identification",
    AAAI 2021.

    Args:
        scale: weight of the loss, lambda_KL.
        kl_mode: `weighted_ce`, `weighted_soft` or `regulariser`.
    """

    node = "INCLR"
    label = "loss_inclr"
    reads = ("pred_class_logits",)
    needs_teacher = True
    uses_weights = True
    MODES = ("weighted_ce", "weighted_soft", "regulariser")

    def __init__(self, scale: float = 0.5, kl_mode: str = "weighted_ce") -> None:
        super().__init__()
        if kl_mode not in self.MODES:
            raise UserError(
                f"MODEL.LOSSES.INCLR.KL_MODE is {kl_mode!r}, but the known values are: "
                f"{', '.join(self.MODES)}."
            )
        self.scale, self.kl_mode = scale, kl_mode

    def forward(
        self,
        outputs: dict[str, torch.Tensor],
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The scaled loss of a batch; the mean stays over B when weights are given."""
        assert teacher is not None  # needs_teacher
        logits = outputs["pred_class_logits"].float()
        if self.kl_mode == "weighted_ce":
            losses = F.cross_entropy(logits, targets, reduction="none")
        else:
            losses = divergence(teacher["pred_class_logits"].detach().float(), logits)
        trust = None if self.kl_mode == "regulariser" else weights
        return self.scale * weighted_mean(losses, trust)


def divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """(B,) KL(softmax(teacher) || softmax(student)) in nats, of (B, K) logits."""
    log_p, log_q = F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)
