"""Names and shapes of a head's tensors -> the keys of MODEL.HEADS that make it."""

from __future__ import annotations

import re
from typing import Any

from .recognition import Shapes, UnknownNetworkError

HEADS = "heads."
GEM_P = "GeneralizedMeanPoolingP"
"""The one pooling of fast-reid that has a tensor: its exponent is trained."""
_POOL_WITHOUT_TENSOR = "GlobalAvgPool"
_CLASSIFIER = re.compile(r"(parts\.\w+\.)?weight$")


def recognise_head(shapes: Shapes, feat_dim: int | None, cfg: Any) -> dict[str, Any]:
    """The keys inside MODEL.HEADS that make a head with these tensors, e.g. `PARTS.NAMES`.

    What tensors do not show stays as the config has it: which pooling, if it has no tensor. A
    config with a `MultiViewHead` keeps it for a file that has the global view alone: the parts are
    then new. A file without a head changes nothing.

    Args:
        shapes: of the head's tensors, without the prefix `heads.`.
        feat_dim: channels of the feature map; None if they are not known.
        cfg: for what tensors do not show.

    Raises:
        UnknownNetworkError: none of our heads has these tensors.
    """
    names = [name for name in shapes if not _CLASSIFIER.match(name)]
    if not shapes:
        return {}
    neck = [name for name in names if name.startswith("bottleneck.")]
    with_conv = len(shapes.get("bottleneck.0.weight", ())) == 4
    keys: dict[str, Any] = {
        "NAME": "PseudoLabelHead",
        "POOL_LAYER": _pooling(shapes, cfg.MODEL.HEADS.POOL_LAYER),
        "WITH_BNNECK": any(name.endswith(".bias") for name in neck),
        "EMBEDDING_DIM": shapes["bottleneck.0.weight"][0] if with_conv else 0,
    }
    parts = list(dict.fromkeys(n.split(".")[1] for n in shapes if n.startswith("parts.")))
    in_dim = _in_dim(shapes, with_conv)
    if parts:
        keys |= {
            "NAME": "MultiViewHead",
            "PARTS.NAMES": tuple(parts),
            "PARTS.BOTTLENECK": any(name.startswith("part_bottleneck.") for name in names),
        }
    elif "embedding.weight" in shapes or (feat_dim and in_dim and in_dim > feat_dim):
        keys |= {"NAME": "PyramidHead", "PYRAMID.LEVELS": _levels(in_dim, feat_dim)}
        keys["EMBEDDING_DIM"] = shapes.get("embedding.weight", (0,))[0]
    elif feat_dim and in_dim and in_dim != feat_dim:
        raise UnknownNetworkError(
            f"its head is of {in_dim} channels, but its backbone gives {feat_dim}"
        )
    elif cfg.MODEL.HEADS.NAME == "MultiViewHead":
        del keys["NAME"]
    return keys


def _pooling(shapes: Shapes, configured: str) -> str:
    if "pool_layer.p" in shapes:
        return GEM_P
    return _POOL_WITHOUT_TENSOR if configured == GEM_P else configured


def _in_dim(shapes: Shapes, with_conv: bool) -> int | None:
    """How wide the pooled vector is: by the first layer, or by the classifier if there is none."""
    if "embedding.weight" in shapes:
        return shapes["embedding.weight"][1]
    if with_conv:
        return shapes["bottleneck.0.weight"][1]
    first = shapes.get("bottleneck.0.weight", ())
    return first[0] if first else shapes.get("weight", (0, None))[1]


def _levels(in_dim: int | None, feat_dim: int | None) -> int:
    """I of a pyramid of I (I + 1) / 2 stripes."""
    stripes, rest = divmod(in_dim or 0, feat_dim or 1)
    for levels in range(1, 33):
        if levels * (levels + 1) // 2 == stripes and not rest:
            return levels
    raise UnknownNetworkError(
        f"its head is of {in_dim} channels, which is no pyramid of stripes of {feat_dim} channels"
    )
