"""All files of an export: written into a folder that is there when they are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..errors import UserError
from ..evaluation.evaluated_network import EvaluatedNetwork
from ..folders import temporary_folder
from ..output_files import obstacle_above
from . import FORMATS, fastreid_format, onnx_format, torch_formats
from .checks import BATCHES, Check, Difference, make_checks
from .facts import FACTS, README, describe, readme
from .feature_network import FeatureNetwork, check_views
from .images import images_to_check
from .networks import load_network
from .sources import Source

WRITERS = {
    "onnx": (onnx_format.write_onnx, onnx_format.FILE),
    "torchscript": (torch_formats.write_torchscript, torch_formats.TORCHSCRIPT),
    "torch-export": (torch_formats.write_torch_export, torch_formats.TORCH_EXPORT),
}
"""Format -> how a `FeatureNetwork` is written, and into which file."""

Found = tuple[Difference, dict[str, Any]]
"""What was measured of a format, and what else there is to say about it."""


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        out: the folder to write.
        formats: of `FORMATS`.
        kind: `teacher`, `student` or None, see `load_network`.
        number: which of several networks, from 1, or None.
        views: to test; None: `TEST.VIEWS`.
        normalize: whether the pixels are normalised inside of the files.
        unit: whether the files give features of length 1.
    """

    out: str
    formats: tuple[str, ...] = ("fastreid", "onnx")
    kind: str | None = None
    number: int | None = None
    views: tuple[str, ...] | None = None
    normalize: bool = True
    unit: bool = False


def check_request(request: Request) -> None:
    """Refuse, before anything is read, formats that are not known or cannot be written here.

    Raises:
        UserError: naming the option, or the package that is missing.
    """
    for name in request.formats:
        if name not in FORMATS:
            raise UserError(f"--format is {name!r}, but the known ones are: {', '.join(FORMATS)}.")
    _check_folder(request.out)
    if "onnx" in request.formats:
        onnx_format.check_packages()
    if "torch-export" in request.formats:
        torch_formats.check_torch_export()


def write_export(source: Source, request: Request) -> dict[str, Any]:
    """Write all files; gives what `export.json` holds.

    Raises:
        UserError: nothing is written.
    """
    network = load_network(source, request.kind, request.number)
    views, option = request.views, "--views"
    if views is None:
        views, option = tuple(network.cfg.TEST.VIEWS), "TEST.VIEWS"
    check_views(option, views, network.module)
    if "fastreid" in request.formats:
        fastreid_format.check_expressible(network, request.views)
    images, compared_on = images_to_check(network.cfg, sum(BATCHES))
    module = FeatureNetwork(
        network.module, views, network.cfg.TEST.ETA,
        normalize=request.normalize, unit=request.unit,
    )  # fmt: skip
    checks = _checks_of(module, images)
    facts = describe(source, network, module, checks[0].features.shape[1])
    facts["compared_on"] = compared_on
    if views != tuple(network.cfg.TEST.VIEWS):
        facts["scores"] = {}  # they are of other views
    notes = [source.remark] if source.remark else []
    notes += fastreid_format.notes_on(network) if "fastreid" in request.formats else []
    with _folder_or_nothing(request.out) as folder:
        files = []
        for name in tqdm(request.formats, desc="formats", disable=None, leave=False):
            if name == "fastreid":
                names = [fastreid_format.MODEL, fastreid_format.CONFIG]
                found: Found = fastreid_format.write_fastreid(network, images, folder), {}
            else:
                write, file = WRITERS[name]
                names, found = [file], write(module, checks, folder, facts)
            files.append(_entry(name, names, found, folder))
        return _described(folder, facts, files, notes)


def _described(
    folder: str, facts: dict[str, Any], files: list[dict[str, Any]], notes: list[str]
) -> dict[str, Any]:
    """Write what there is to say about the files; gives what `export.json` holds."""
    content = {**facts, "files": files, "notes": notes}
    texts = {FACTS: json.dumps(content, indent=2) + "\n", README: readme(facts, files, notes)}
    for name, text in texts.items():
        Path(folder, name).write_text(text, encoding="utf-8")
    return content


def _checks_of(module: FeatureNetwork, images: torch.Tensor) -> list[Check]:
    """What the files are fed, and what the run's test makes of it."""
    tested = EvaluatedNetwork(module.network, module.views, module.eta)
    checks = make_checks(images, tested)
    if module.unit:
        unit = torch.nn.functional.normalize
        checks = [replace(check, features=unit(check.features)) for check in checks]
    if not module.normalize:
        mean, std = module.mean, module.std
        checks = [replace(check, images=(check.images - mean) / std) for check in checks]
    return checks


def _entry(name: str, files: Sequence[str], found: Found, folder: str) -> dict[str, Any]:
    difference, more = found
    return {
        "format": name,
        "files": list(files),
        "bytes": sum(os.path.getsize(os.path.join(folder, file)) for file in files),
        "max_relative_difference": difference.relative,
        "max_unit_difference": difference.unit,
        **more,
    }


def _check_folder(path: str) -> None:
    """Refuse a folder that is not empty, or could not be written."""
    if not path:
        raise UserError("--out is empty; name a folder.")
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UserError(f"--out is {path}, which is no folder; name a new or an empty folder.")
    if os.path.isdir(path) and os.listdir(path):
        raise UserError(f"--out is {path}, which is not empty; name a new or an empty folder.")
    above, reason = obstacle_above(path)
    if reason:
        raise UserError(f"--out is {path}, but {above} {reason}; name a folder elsewhere.")


@contextmanager
def _folder_or_nothing(path: str) -> Iterator[str]:
    """A temporary folder that takes the name `path` when the block ends without an error."""
    path = os.path.abspath(path)
    begun = False
    try:
        with temporary_folder(path) as folder:
            begun = True
            yield folder
            os.chmod(folder, 0o755)
            os.replace(folder, path)
    except BaseException as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError) or isinstance(error, KeyboardInterrupt):
            raise
        reason = cause.strerror or str(cause)
        if not begun:
            raise UserError(f"--out is {path}, which cannot be made ({reason}).") from error
        raise UserError(
            f"{path} cannot be written ({reason}); free some space or name another --out."
        ) from error
