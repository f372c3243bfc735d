"""fast-reid's transforms, with one more choice for the colour jitter."""

from __future__ import annotations

from typing import Any

from fastreid.data.transforms import build_transforms as build_fastreid_transforms
from torchvision import transforms as T


def build_transforms(cfg: Any, is_train: bool) -> T.Compose:
    """PIL image -> float tensor (3, H, W) in [0, 255], as the `INPUT` keys say.

    With `INPUT.CJ.ONE_OF` fast-reid's colour jitter, which applies all its changes together, is
    replaced by one of them at random ("a 20% brightness variation or a 15% contrast variation",
    MSPLR, section 3.6.1).
    """
    transform = build_fastreid_transforms(cfg, is_train=is_train)
    jitter = cfg.INPUT.CJ
    if not (is_train and jitter.ENABLED and jitter.ONE_OF):
        return transform
    names = ("BRIGHTNESS", "CONTRAST", "SATURATION", "HUE")
    choices = [T.ColorJitter(**{name.lower(): jitter[name]}) for name in names if jitter[name] > 0]
    one_of = T.RandomApply([T.RandomChoice(choices)], p=jitter.PROB)
    return T.Compose([one_of if _is_color_jitter(t) else t for t in transform.transforms])


def _is_color_jitter(transform: Any) -> bool:
    return isinstance(transform, T.RandomApply) and isinstance(
        transform.transforms[0], T.ColorJitter
    )
