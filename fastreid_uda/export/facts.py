"""What the files of an export say about themselves: for programs and for people."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .. import __version__
from ..config import method_name
from .feature_network import FeatureNetwork
from .networks import TrainedNetwork
from .onnx_format import INPUT, OUTPUT
from .sources import Source

README, FACTS = "README.txt", "export.json"

_PURPOSES = {
    "fastreid": "for fast-reid itself: its tools, its demo, further training",
    "onnx": "for onnxruntime and other engines, in any language",
    "torch-export": "for torch without fast-reid, read by torch.export.load",
    "torchscript": "for torch without fast-reid, also C++, read by torch.jit.load",
}


def describe(
    source: Source, network: TrainedNetwork, module: FeatureNetwork, dim: int
) -> dict[str, Any]:
    """Name -> fact, of the files that give features; JSON can hold all of it.

    Args:
        source: the checkpoint.
        network: that is taken away.
        module: how.
        dim: D of the features.
    """
    cfg, height_width = network.cfg, input_size(network.cfg)
    return {
        "source": source.given,
        "checkpoint": os.path.basename(source.path),
        "network": network.name,
        "method": method_name(cfg),
        "target": "+".join(cfg.UDA.TARGET),
        "rounds": network.rounds,
        "scores": dict(network.scores),
        "input": INPUT,
        "input_shape": ["batch", 3, *height_width],
        "input_size": height_width,
        "color_order": "RGB",
        "resize": resize_method(cfg),
        "normalization": "inside" if module.normalize else "outside",
        "input_range": "0..255" if module.normalize else "(0..255 - mean) / std",
        "mean": [float(x) for x in cfg.MODEL.PIXEL_MEAN],
        "std": [float(x) for x in cfg.MODEL.PIXEL_STD],
        "output": OUTPUT,
        "feature_dim": dim,
        "views": list(module.views),
        "eta": module.eta if len(module.views) > 1 else None,
        "l2_normalized": module.unit,
        "metric": cfg.TEST.METRIC,
        "versions": versions(),
    }


def input_size(cfg: Any) -> list[int]:
    """Height and width of what the network is given in a test."""
    return list(cfg.INPUT.CROP.SIZE if cfg.INPUT.CROP.ENABLED else cfg.INPUT.SIZE_TEST)


def resize_method(cfg: Any) -> str:
    """fast-reid's test transform in words."""
    height, width = cfg.INPUT.SIZE_TEST
    text = (
        f"Pillow bicubic to {height} x {width} (height x width), aspect ratio not kept: "
        f"image.resize(({width}, {height}), Image.Resampling.BICUBIC)"
    )
    if cfg.INPUT.CROP.ENABLED:
        text += " and then the central {} x {}".format(*cfg.INPUT.CROP.SIZE)
    return text


def versions() -> dict[str, str]:
    """The packages that have written the files."""
    found = {"fastreid_uda": __version__, "torch": torch.__version__}
    for name in ("fastreid", "torchvision", "pillow", "onnx", "onnxscript", "onnxruntime"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def readme(
    facts: Mapping[str, Any], files: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> str:
    """The text of `README`.

    Args:
        facts: of `describe`.
        files: of each format: `format`, `files` (names), `max_relative_difference`,
            `max_unit_difference`.
        notes: sentences.
    """
    parts = [_origin(facts), _table(files, facts), _preprocessing(facts), _comparing(facts)]
    if any(entry["format"] == "fastreid" for entry in files):
        parts.append(_IN_FASTREID)
    if notes:
        parts.append("Notes\n" + "\n".join(f"* {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


_IN_FASTREID = """In a checkout of fast-reid
python tools/train_net.py --config-file FOLDER/config.yaml --eval-only \\
    MODEL.WEIGHTS FOLDER/model.pth
(FOLDER is this one; OUTPUT_DIR, where fast-reid writes its log, is logs/exported)"""


def _origin(facts: Mapping[str, Any]) -> str:
    rounds = "" if facts["rounds"] is None else f", after round {facts['rounds']}"
    scores = ", ".join(f"{name} {value:.2f}" for name, value in facts["scores"].items())
    known = f"\nIn the run's test: {scores}." if scores else ""
    return (
        f"Exported by fastreid_uda {facts['versions']['fastreid_uda']} from {facts['source']} "
        f"({facts['checkpoint']}): {facts['network']}{rounds}.{known}"
    )


def _table(files: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    lines = ["Files, and how far their features are from those of the run's network"]
    for entry in files:
        lines.append(f"{' + '.join(entry['files'])}: {_PURPOSES[entry['format']]}")
        lines.append(
            f"    largest relative difference {entry['max_relative_difference']:.1e}, of "
            f"L2-normalised features {entry['max_unit_difference']:.1e}"
        )
    lines.append(f"compared in batches of 1, 2 and 5, on noise and on {facts['compared_on']}")
    return "\n".join(lines)


def _preprocessing(facts: Mapping[str, Any]) -> str:
    height, width = facts["input_size"]
    mean, std = (", ".join(f"{x:.6g}" for x in facts[name]) for name in ("mean", "std"))
    normalization = (
        "no normalisation: mean and std are inside of the file"
        if facts["normalization"] == "inside"
        else f"(pixel - mean) / std by channel: mean {mean}; std {std}"
    )
    return "\n".join(
        [
            "From an image to the input (all files but model.pth, whose config says the same)",
            "1. RGB, turned as its Exif orientation says, 8 bits a channel",
            f"2. resize: {facts['resize']}",
            "   (OpenCV's INTER_CUBIC does not smooth where it shrinks: other features)",
            f"3. float32 0..255, channels first, {INPUT} of shape (batch, 3, {height}, {width})",
            f"4. {normalization}",
        ]
    )


def _comparing(facts: Mapping[str, Any]) -> str:
    views, unit = facts["views"], facts["l2_normalized"]
    joined = (
        f" They join the views {', '.join(views)}: unit rows, all but the first times "
        f"sqrt({facts['eta']}), one after the other."
        if len(views) > 1
        else ""
    )
    length = "of length 1" if unit else "of any length: divide them by it to compare them"
    return (
        f"Features\n{OUTPUT} of shape (batch, {facts['feature_dim']}), {length}.{joined}\n"
        "Two images are compared by the cosine of their features: 1 is the most alike. Of L2-"
        "normalised\nfeatures the squared Euclidean distance is 2 - 2 cosine and ranks alike."
    )
