"""A checkpoint and a config that fast-reid reads without this package.

fast-reid has no views, no teachers and no head of ours: what remains is its `Baseline` with its
`EmbeddingHead`, which gives the global view.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastreid.config import get_cfg
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.meta_arch import build_model
from fastreid.solver import lr_scheduler

from ..config_values import all_keys, get
from ..engine.checkpointing import save_checkpoint
from ..errors import UserError
from ..evaluation.evaluated_network import EvaluatedNetwork
from ..modeling.heads.pyramid_head import PyramidHead
from .checks import Difference, make_checks, measure, require_close
from .networks import TrainedNetwork

MODEL, CONFIG = "model.pth", "config.yaml"
LIMIT = 1e-5
"""Of the difference to the features of the run's network."""

_LOSSES = ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface")
"""Those of fast-reid's Baseline."""
_WORKING_DIR = "logs/exported"
"""fast-reid writes its config and log into OUTPUT_DIR: not into the folder of the run."""


def check_expressible(network: TrainedNetwork, views: Sequence[str] | None) -> None:
    """Refuse what fast-reid has no layers for.

    Args:
        network: to write.
        views: that the user asks for; None: nobody has asked.

    Raises:
        UserError: naming the formats that can.
    """
    others = "choose --format onnx, torchscript or torch-export, which can"
    if views is not None and tuple(views) != ("global",):
        raise UserError(
            f"--views is {','.join(views)}, but fast-reid's head gives the view global alone; "
            f"{others}, or --views global."
        )
    levels = getattr(network.module.heads, "levels", 1)
    if levels > 1:
        raise UserError(
            f"MODEL.HEADS.PYRAMID.LEVELS is {levels}, but fast-reid's EmbeddingHead cannot pool "
            f"stripes, so that the format fastreid cannot express this network; {others}."
        )


def write_fastreid(network: TrainedNetwork, images: torch.Tensor, folder: str) -> Difference:
    """Write `MODEL` and `CONFIG`, and compare what fast-reid makes of them with the network.

    Args:
        network: to write.
        images: (N, 3, H, W) RGB, 0..255, to compare on.
        folder: that is there.

    Raises:
        UserError: the features differ by more than `LIMIT`.
    """
    cfg = plain_config(network)
    with open(os.path.join(folder, CONFIG), "w", encoding="utf-8") as file:
        file.write(cfg.dump())
    save_checkpoint(os.path.join(folder, MODEL), {"model": plain_state(network)})
    checks = make_checks(images, EvaluatedNetwork(network.module, ("global",), 0.0))
    rebuilt = _rebuilt_by_fastreid(folder)
    with torch.no_grad():
        difference = measure(lambda batch: rebuilt({"images": batch}), checks)
    require_close("fastreid", difference, LIMIT)
    return difference


def _rebuilt_by_fastreid(folder: str) -> torch.nn.Module:
    """What fast-reid's own functions make of the files."""
    cfg = get_cfg()
    cfg.merge_from_file(os.path.join(folder, CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    rebuilt = build_model(cfg)
    state = torch.load(os.path.join(folder, MODEL), map_location="cpu", weights_only=True)
    rebuilt.load_state_dict(state["model"], strict=True)
    return rebuilt.eval()


def plain_state(network: TrainedNetwork) -> dict[str, torch.Tensor]:
    """The tensors under fast-reid's names, those of the global view alone."""
    state = {
        name: tensor.detach().clone()
        for name, tensor in network.module.state_dict().items()
        if not name.startswith(("heads.parts.", "heads.part_bottleneck.", "criteria."))
    }
    if isinstance(network.module.heads, PyramidHead):
        state = _with_linear_layer_as_embedding(state)
    return state


def _with_linear_layer_as_embedding(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """f_e = W f + b of a `PyramidHead` of one level as convolution and batch norm.

    fast-reid's convolution has no bias; a batch norm of mean 0, variance 1 and weight
    sqrt(1 + eps) adds it and changes nothing else. The tested feature f_e comes before the head's
    own batch norm, which is left out.
    """
    plain = {k: v for k, v in state.items() if not k.startswith(("heads.bottleneck.", "heads.emb"))}
    weight, bias = state.get("heads.embedding.weight"), state.get("heads.embedding.bias")
    if weight is None or bias is None:
        return plain
    eps = torch.nn.BatchNorm2d(1).eps
    norm = "heads.bottleneck.1."
    return plain | {
        "heads.bottleneck.0.weight": weight[..., None, None].clone(),
        f"{norm}weight": torch.full_like(bias, (1 + eps) ** 0.5),
        f"{norm}bias": bias.clone(),
        f"{norm}running_mean": torch.zeros_like(bias),
        f"{norm}running_var": torch.ones_like(bias),
        f"{norm}num_batches_tracked": torch.tensor(0),
    }


def plain_config(network: TrainedNetwork) -> Any:
    """fast-reid's config of the network: its own keys, with values that it knows."""
    cfg = network.cfg
    plain = get_cfg()
    for key in all_keys(plain):
        group, _, name = key.rpartition(".")
        get(plain, group)[name] = get(cfg, key)
    model = plain.MODEL
    model.META_ARCHITECTURE, model.HEADS.NAME = "Baseline", "EmbeddingHead"
    model.HEADS.NUM_CLASSES = len(network.module.heads.weight)
    model.BACKBONE.PRETRAIN, model.BACKBONE.PRETRAIN_PATH = False, ""
    model.WEIGHTS = MODEL
    model.LOSSES.NAME = tuple(n for n in model.LOSSES.NAME if n in _LOSSES) or _LOSSES[:1]
    if isinstance(network.module.heads, PyramidHead):
        model.HEADS.WITH_BNNECK = model.HEADS.EMBEDDING_DIM > 0
        if model.HEADS.WITH_BNNECK:
            model.HEADS.NORM = "BN"
    if not hasattr(lr_scheduler, plain.SOLVER.SCHED):
        plain.SOLVER.SCHED = "MultiStepLR"
    plain.TEST.FLIP.ENABLED = False  # fast-reid normalises the mirrored images twice
    plain.OUTPUT_DIR = _WORKING_DIR
    return plain


def notes_on(network: TrainedNetwork) -> list[str]:
    """What fast-reid's test of the files leaves out, or does otherwise than the run's."""
    cfg, notes = network.cfg, []
    if tuple(cfg.TEST.VIEWS) != ("global",):
        views = ", ".join(cfg.TEST.VIEWS)
        notes.append(
            f"The run tests the views {views} joined (TEST.VIEWS, TEST.ETA). fast-reid has one "
            f"view: {MODEL} gives the global one, whose mAP is another, as a rule lower; the run's "
            "command with --eval-only TEST.VIEWS \"('global',)\" measures it."
        )
    if cfg.TEST.FLIP.ENABLED:
        notes.append(
            "The run averages the features of an image and its mirror image (TEST.FLIP). It is off "
            f"in {CONFIG}, because fast-reid 1.4.0 normalises the mirror image twice, and is not "
            "part of the other files: the mAP differs a little."
        )
    backbone = cfg.MODEL.BACKBONE.NAME
    if not _is_of_fastreid(BACKBONE_REGISTRY, backbone):
        notes.append(
            f"fast-reid does not know the backbone {backbone}: import the module that registers it "
            "before it builds the network."
        )
    ours = [n for n in cfg.DATASETS.TESTS if not _is_of_fastreid(DATASET_REGISTRY, n)]
    if ours:
        notes.append(
            f"fast-reid does not know the data set {', '.join(ours)}: import fastreid_uda.data"
            ".datasets before its test, or set DATASETS.TESTS to one of its own."
        )
    drawn = [n for n in cfg.DATASETS.TESTS if _has_drawn_gallery(n)]
    if drawn:
        notes.append(
            f"The gallery of {', '.join(drawn)} is drawn: the run's scores are means of "
            f"TEST.GALLERY_DRAWS {cfg.TEST.GALLERY_DRAWS} draws, fast-reid's are of one."
        )
    if isinstance(network.module.heads, PyramidHead):
        notes.append(
            f"{MODEL} gives the features that are tested. The rectified ones that the classifier "
            "saw in training do not exist in fast-reid: train it on with new classes only."
        )
    return notes


def _is_of_fastreid(registry: Any, name: str) -> bool:
    found = registry._obj_map.get(name)
    return found is not None and found.__module__.startswith("fastreid.")


def _has_drawn_gallery(name: str) -> bool:
    return getattr(DATASET_REGISTRY._obj_map.get(name), "gallery_is_drawn", False)
