"""Names that tensors had in earlier versions of fast-reid, whose model zoo still has such files."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..errors import UserError

_CLASSIFIERS = ("heads.classifier.weight", "heads.classifier._weight")
_OLD_NECK, _NECK = "heads.bnneck.", "heads.bottleneck."
_EXPONENT = "heads.pool_layer.p"  # of GeneralizedMeanPoolingP: one number, here of shape (1,)


def current_names(state: Mapping[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """A state dict of one network with the names and shapes of fast-reid 1.4.0.

    Before 1.0 the batch norm before the classifier was `heads.bnneck`, and the classifier a layer
    of its own, `heads.classifier`. fast-reid 1.4.0 leaves both at random without an error
    (issues 427, 486 and 617 of JDAI-CV/fast-reid): features of such a file are then wrong.

    Args:
        state: name -> tensor.
        path: of the file, for messages.

    Raises:
        UserError: the head has layers that no head of fast-reid 1.4.0 has.
    """
    has_neck = any(name.startswith(_NECK) for name in state)
    renamed = {}
    for name, value in state.items():
        if name.startswith(_OLD_NECK) and has_neck:
            raise UserError(
                f"{path} has both {_OLD_NECK}* and {_NECK}*: it is of fast-reid's ReductionHead, "
                "with a leaky rectifier between them, which fast-reid 1.4.0 and its heads do not "
                "have; take another checkpoint."
            )
        if name in _CLASSIFIERS:
            name = "heads.weight"
        elif name.startswith(_OLD_NECK):
            name = f"{_NECK}0.{name.removeprefix(_OLD_NECK)}"
        elif name == _EXPONENT and value.ndim == 0:
            value = value.reshape(1)
        renamed[name] = value
    return renamed
