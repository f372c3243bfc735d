"""A config -> the network that is trained, clustered and tested."""

from __future__ import annotations

import logging
from typing import Any

from fastreid.modeling.meta_arch import build_model
from torch import nn

from ..errors import UserError
from .batch_norm import make_independent_of_processes
from .meta_arch.mean_teacher import MeanTeacher
from .meta_arch.uda_baseline import UDABaseline

logger = logging.getLogger(__name__)


def build_network(cfg: Any) -> nn.Module:
    """The network of the config, inside a `MeanTeacher` if `UDA.MEAN_TEACHER` says so.

    Raises:
        UserError: the parts do not fit, or the ImageNet weights are not to be had.
    """
    node = cfg.UDA.MEAN_TEACHER
    if not node.ENABLED:
        return _build_trained(cfg)
    return MeanTeacher(
        [_build_trained(cfg) for _ in range(node.STUDENTS)],
        ema_decay=node.EMA_DECAY,
        ema_warmup=node.EMA_WARMUP,
        ema_buffers=node.EMA_BUFFERS,
        teaching=node.TEACHING,
    )


def build_plain_network(cfg: Any) -> UDABaseline:
    """A network alone, of fast-reid's own layers, for evaluation; `build_network` is for training.

    With ImageNet weights if `MODEL.BACKBONE.PRETRAIN` says so.

    Raises:
        UserError: as `build_network`.
    """
    network = _build_by_fastreid(cfg)
    if not isinstance(network, UDABaseline):
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, which cannot take new "
            "classes in each round; set it to UDABaseline."
        )
    return network


def _build_trained(cfg: Any) -> UDABaseline:
    """A network alone, in which it does not matter how a batch is shared among processes."""
    network = build_plain_network(cfg)
    make_independent_of_processes(network, cfg.UDA.BN_GROUP)
    return network


def _build_by_fastreid(cfg: Any) -> nn.Module:
    """fast-reid's network of the config, with errors that name the keys."""
    logging.getLogger("fastreid").debug("Building %s.", cfg.MODEL.META_ARCHITECTURE)
    backbone = cfg.MODEL.BACKBONE
    try:
        return build_model(cfg)
    except UserError:
        raise
    except Exception as error:
        if not backbone.PRETRAIN:
            logger.debug("The network cannot be built.", exc_info=True)
            reason = f"{type(error).__name__} {' '.join(str(error).split())[:120]}".strip()
            raise UserError(
                f"The network cannot be built from MODEL.BACKBONE ({backbone.NAME}, DEPTH "
                f"{backbone.DEPTH}) and MODEL.HEADS ({reason}); change them."
            ) from error
        wanted = backbone.PRETRAIN_PATH or f"of {backbone.NAME} {backbone.DEPTH}"
        raise UserError(
            f"The ImageNet weights {wanted} cannot be had ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:80]}); set MODEL.BACKBONE.PRETRAIN_PATH to a "
            "file, or MODEL.BACKBONE.PRETRAIN False to train from scratch."
        ) from error
