"""Losses, one idea per file; every module of this folder registers itself.

A registered loss is a `Loss` with the arguments of its config node `MODEL.LOSSES.<node>`, called
once per view as `loss(outputs, targets, weights=None, teacher=None)`. It returns a scalar.

- outputs: of the head, for one view: `cls_outputs` (B, K) logits with the margin of the
  classification layer, `pred_class_logits` (B, K) logits without it, `features` (B, D) before the
  neck, of some heads `activated` (B, D) after it. A loss names those it looks at in its class
  attribute `reads`. Half precision under autocast; a loss turns them into float32.
- targets: (B,) int64 in [0, K).
- weights: (B,) float, trust in each label, or None. A loss that looks at them says so by its class
  attribute `uses_weights`; the means stay over B.
- teacher: the same dict from the mean teacher, for the same images and without gradient, or None.
  A loss whose class attribute `needs_teacher` is True is never called without one: the engine
  refuses it at start-up. The others ignore it.

B images of a batch, K classes, D dimensions.
"""

from ...registry import import_siblings
from .base import LOSSES, ClassMemory, Loss

import_siblings(__name__, list(__path__))

__all__ = ["LOSSES", "ClassMemory", "Loss"]
