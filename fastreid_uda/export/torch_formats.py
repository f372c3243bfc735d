"""Files that torch runs without fast-reid and without this package."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..errors import UserError
from .checks import Check, Difference, example_of, measure, reason_of, require_close
from .feature_network import FeatureNetwork

TORCHSCRIPT, TORCH_EXPORT = "model.ts", "model.pt2"
LIMIT = 1e-5
"""Of the difference to the features of the network."""
FACTS = "facts.json"
"""The name of the text inside of both files that says what they are."""


def check_torch_export() -> None:
    """Refuse a torch whose torch.export cannot leave the batch size free.

    Raises:
        UserError: before torch 2.2.
    """
    export = getattr(getattr(torch, "export", None), "export", None)
    if export is None or "dynamic_shapes" not in inspect.signature(export).parameters:
        raise UserError(
            f"The format torch-export needs torch 2.2 or newer, but this is {torch.__version__}; "
            "choose --format torchscript."
        )


def write_torchscript(
    network: FeatureNetwork, checks: Sequence[Check], folder: str, facts: Mapping[str, Any]
) -> tuple[Difference, dict[str, Any]]:
    """Write `TORCHSCRIPT` by tracing, read it back and compare.

    Args:
        network: to write.
        checks: batches as the file is fed, of several sizes.
        folder: that is there.
        facts: what the text `FACTS` in the file says.

    Raises:
        UserError: the network cannot be traced, or the features differ by more than `LIMIT`.
    """
    path = os.path.join(folder, TORCHSCRIPT)

    def write(example: torch.Tensor) -> None:
        with torch.no_grad():
            traced = torch.jit.trace(network, example, check_trace=False)
        torch.jit.save(traced, path, _extra_files={FACTS: json.dumps(facts)})

    return _written("torchscript", write, lambda: torch.jit.load(path), checks)


def write_torch_export(
    network: FeatureNetwork, checks: Sequence[Check], folder: str, facts: Mapping[str, Any]
) -> tuple[Difference, dict[str, Any]]:
    """Write `TORCH_EXPORT` with torch.export, read it back and compare; as `write_torchscript`."""
    path = os.path.join(folder, TORCH_EXPORT)

    def write(example: torch.Tensor) -> None:
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(program, path, extra_files={FACTS: json.dumps(facts)})

    return _written("torch-export", write, lambda: torch.export.load(path).module(), checks)


def _written(
    name: str,
    write: Callable[[torch.Tensor], None],
    read: Callable[[], Any],
    checks: Sequence[Check],
) -> tuple[Difference, dict[str, Any]]:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecations, and constants of a trace
            write(example_of(checks))
            difference = measure(read(), checks)
    except (KeyboardInterrupt, MemoryError, OSError):
        raise
    except Exception as error:  # whatever torch makes of a layer that it cannot express
        raise UserError(
            f"The format {name} of torch {torch.__version__} cannot express this network, and "
            f"nothing is written ({reason_of(error)}); choose another --format."
        ) from error
    require_close(name, difference, LIMIT)
    return difference, {}
