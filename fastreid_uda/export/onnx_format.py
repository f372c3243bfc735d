"""One ONNX file with a free batch size, compared with torch by onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ..errors import UserError
from .checks import Check, Difference, example_of, measure, reason_of, what_differs
from .feature_network import FeatureNetwork

FILE = "model.onnx"
LIMIT = 1e-4
"""Of the difference to the features of torch."""
INPUT, OUTPUT = "images", "features"
_OPSETS = {"dynamo": 18, "torchscript": 17}  # what all torch versions since 2.1 can write

_logger = logging.getLogger(__name__)


def check_packages() -> None:
    """Refuse to begin where a package is missing or broken.

    Raises:
        UserError: with the command that installs it.
    """
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"The format onnx needs the package {name}, which cannot be imported "
                f"({' '.join(str(error).split())[:80]}); type `pip install onnx onnxruntime "
                "onnxscript`, or choose another --format."
            ) from error


def write_onnx(
    network: FeatureNetwork, checks: Sequence[Check], folder: str, facts: Mapping[str, Any]
) -> tuple[Difference, dict[str, Any]]:
    """Write `FILE` by the first of torch's exporters whose file gives the same features.

    Args:
        network: to write.
        checks: batches as the file is fed, of several sizes.
        folder: that is there.
        facts: name -> what the metadata of the file say; texts as they are, others as JSON.

    Returns:
        The difference to torch, and the opset and the exporter.

    Raises:
        UserError: no exporter can write this network.
    """
    path = os.path.join(folder, FILE)
    failures = []
    for exporter in _exporters():
        try:
            with _quietly():
                _EXPORT[exporter](network, example_of(checks), path)
                opset = _finish(path, facts)
                difference = measure(_run_by_onnxruntime(path), checks)
            failure = what_differs(difference, LIMIT)
        except (KeyboardInterrupt, MemoryError, OSError):
            raise
        except Exception as error:  # whatever torch, onnx and onnxruntime raise
            _logger.debug("The exporter %s fails.", exporter, exc_info=True)
            failure = reason_of(error)
        if not failure:
            return difference, {"opset": opset, "exporter": exporter}
        failures.append(f"{exporter} ({failure})")
    raise UserError(
        f"No exporter of torch {torch.__version__} writes ONNX that gives the features of this "
        f"network, and nothing is written: {', '.join(failures)}; choose another --format, or "
        "another version of torch."
    )


def _exporters() -> list[str]:
    """The exporters of this torch, the one that it prefers first."""
    parameter = inspect.signature(torch.onnx.export).parameters.get("dynamo")
    if parameter is None or importlib.util.find_spec("onnxscript") is None:
        return ["torchscript"]
    return ["dynamo", "torchscript"] if parameter.default else ["torchscript", "dynamo"]


def _by_dynamo(network: FeatureNetwork, example: torch.Tensor, path: str) -> None:
    batch = torch.export.Dim("batch", min=1)
    torch.onnx.export(
        network, (example,), path, input_names=[INPUT], output_names=[OUTPUT], dynamo=True,
        dynamic_shapes=({0: batch},), opset_version=_OPSETS["dynamo"], external_data=False,
        verbose=False,
    )  # fmt: skip


def _by_torchscript(network: FeatureNetwork, example: torch.Tensor, path: str) -> None:
    has_choice = "dynamo" in inspect.signature(torch.onnx.export).parameters
    torch.onnx.export(
        network, (example,), path, input_names=[INPUT], output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        opset_version=_OPSETS["torchscript"], **({"dynamo": False} if has_choice else {}),
    )  # fmt: skip


_EXPORT: dict[str, Callable[[FeatureNetwork, torch.Tensor, str], None]] = {
    "dynamo": _by_dynamo,
    "torchscript": _by_torchscript,
}


def _finish(path: str, facts: Mapping[str, Any]) -> int:
    """Add the metadata, check the file; gives its opset."""
    import onnx

    model = onnx.load(path)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    onnx.helper.set_model_props(model, texts)
    model.producer_name = "fastreid_uda"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


def _run_by_onnxruntime(path: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The file as a function of images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress reports, the warnings and the log of the exporters."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript",
                                                  "onnx_ir", "torch.fx")]  # fmt: skip
    levels = [log.level for log in noisy]
    for log in noisy:
        log.setLevel(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), \
                contextlib.redirect_stderr(nowhere):  # fmt: skip
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(noisy, levels, strict=True):
            log.setLevel(level)
