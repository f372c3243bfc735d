"""Network and images -> features, in the order of the list."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from fastreid.evaluation.evaluator import inference_context
from fastreid.utils import comm
from tqdm import tqdm

from ..data.image_list import ImageList
from ..errors import UserError
from ..labeling.types import FeatureSet


class ProgressLoader:
    """A loader with a progress bar on a terminal and none in a log file."""

    def __init__(self, loader: Any, title: str) -> None:
        self._loader = loader
        self._title = title
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        yield from progress_bar(self._loader, self._title, len(self._loader))


def progress_bar(items: Iterable, title: str, total: int) -> Any:
    """The items behind a tqdm bar on a terminal of the main process, else as they are."""
    hidden = not sys.stderr.isatty() or not comm.is_main_process()
    return tqdm(items, desc=title, total=total, leave=False, disable=hidden, dynamic_ncols=True)


def extract_features(
    model: torch.nn.Module, loader: Any, images: ImageList, extras: Sequence[str] = ()
) -> FeatureSet:
    """The features of all images, in eval mode and without augmentation.

    Args:
        model: gives a dict name -> (B, D) for the names of its views, and of the extras it has.
        loader: all images in the order of the list, a contiguous share per process.
        images: the list.
        extras: names of what else is asked for: by a refiner (`student/global`), or by a loss whose
            class memory starts from it (`activated/global`).

    Returns:
        The same feature set on every process.

    Raises:
        UserError: features are not finite; names the first images.
    """
    parts: list[dict[str, np.ndarray]] = []
    names = [*model.views, *extras]
    with inference_context(model), torch.no_grad():
        for batch in ProgressLoader(loader, "features"):
            outputs = model(batch, names)
            parts.append({name: outputs[name].float().cpu().numpy() for name in names})
    own = {name: np.concatenate([part[name] for part in parts]) for name in names}
    shares = comm.all_gather(own) if comm.get_world_size() > 1 else [own]
    arrays = {name: np.concatenate([share[name] for share in shares]) for name in names}
    features = FeatureSet(
        {view: arrays[view] for view in model.views},
        images.camera_ids,
        extras={name: arrays[name] for name in extras},
    )
    if features.num_images != len(images):
        raise RuntimeError(f"{features.num_images} features for {len(images)} images.")
    return features


def check_finite(features: FeatureSet, images: ImageList) -> None:
    """Raise a `UserError` that names the first images whose features are NaN or infinite."""
    finite = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in features.views.values()])
    bad = np.flatnonzero(~finite)
    if len(bad) == len(images):
        raise UserError(
            "The features of all images are NaN or infinite: the model has diverged; lower "
            "SOLVER.BASE_LR."
        )
    if len(bad):
        names = ", ".join(images.paths[n] for n in bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise UserError(
            f"The features of {len(bad)} image(s) are NaN or infinite ({names}); replace the "
            "images, or set UDA.NON_FINITE to drop."
        )
