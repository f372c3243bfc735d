"""Candidates for the nearest neighbours with torch, on a GPU if there is one.

Imported only where it is asked for: it brings torch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..progress import Progress
from .row_distances import bounds_hold, distance_bounds, slices

_BLOCK_ROWS = 1024
_BLOCK_COLUMNS = 8192
_BFLOAT16_ROUNDING = 2.0**-8
_TENSOR_CORE_ROUNDING = 2.0**-22  # tensor cores cut off sums instead of rounding them

_logger = logging.getLogger(__name__)


class Search:
    """Finds candidates; see `neighbors._candidate_lists`.

    Attributes:
        width: entries of a list.
    """

    def __init__(
        self,
        features: np.ndarray,
        lengths: np.ndarray,
        k: int,
        precision: str,
        device: str | None = None,
    ) -> None:
        """Takes (N, D) float32 features and their squared lengths (N,) float64 to the device."""
        self._features, self._lengths, self._k = features, lengths, k
        self._precision = precision
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.width = min(4 * k + 64, len(features))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the array is not writable, and nobody writes to it
            self._rows = torch.from_numpy(features).to(self._device)
        self._exact: Search | None = None
        if precision == "bfloat16":
            self._exact = Search(features, lengths, k, "float32", self._device)
            self._rows = self._exact._rows.to(torch.bfloat16)
        lower, slack = self._bounds()
        self._lower = torch.from_numpy(lower.astype(np.float32)).to(self._device)
        self._slack = torch.from_numpy(slack.astype(np.float32)).to(self._device)

    def __call__(self, rows: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lists (Q, width) int32 of Q rows, from the rows `among`, and (Q,) bool: complete."""
        columns = torch.from_numpy(among).to(self._device)
        lists = np.full((len(rows), self.width), -1, dtype=np.int32)
        complete = np.zeros(len(rows), dtype=bool)
        progress = Progress(f"Nearest neighbours of {len(rows):,} images", len(rows))
        with _exact_products():
            for part in slices(len(rows), _BLOCK_ROWS):
                own = torch.from_numpy(rows[part]).to(self._device)
                lists[part], complete[part] = self._search(own, columns)
                progress.add(len(own))
        if self._exact is not None and not complete.all():
            again = np.flatnonzero(~complete)
            _logger.info("bfloat16 leaves %d of %d rows to float32.", len(again), len(rows))
            lists[again, : self._exact.width], complete[again] = self._exact(rows[again], among)
        return lists, complete

    def _search(self, own: torch.Tensor, columns: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        width, k = min(self.width, len(columns)), min(self._k, len(columns))
        bounds = torch.empty((len(own), 0), device=self._device)
        found = torch.empty((len(own), 0), dtype=torch.int64, device=self._device)
        for part in slices(len(columns), _BLOCK_COLUMNS):
            numbers = columns[part]
            block = self._products(own, numbers).mul_(-2).add_(self._lower[numbers])
            block.add_(self._lower[own, None])
            nearest = torch.topk(block, min(width, len(numbers)), dim=1, largest=False)
            bounds = torch.cat([bounds, nearest.values], dim=1)
            found = torch.cat([found, numbers[nearest.indices]], dim=1)
            if bounds.shape[1] > width:
                bounds, places = torch.topk(bounds, width, dim=1, largest=False)
                found = found.gather(1, places)
        bounds, places = bounds.sort(dim=1)
        found = found.gather(1, places)
        upper = bounds + (self._slack[own, None] + self._slack[found])
        limit = upper.kthvalue(k, dim=1).values
        # What was left out has lower bounds of at least the last one here.
        complete = limit.isfinite() & bounds.isfinite().all(dim=1)
        if width < len(columns):
            complete &= limit < bounds[:, -1]
        last = (bounds <= limit[:, None]).sum(dim=1) - 1
        sure = complete.cpu().numpy()
        chosen, at = own[complete], last[complete, None]
        if len(chosen) and not bounds_hold(
            self._features,
            chosen.cpu().numpy(),
            found[complete].gather(1, at)[:, 0].cpu().numpy(),
            bounds[complete].gather(1, at)[:, 0].cpu().numpy(),
            upper[complete].gather(1, at)[:, 0].cpu().numpy(),
        ):
            sure[:] = False
        found = torch.where(bounds <= limit[:, None], found, -1)
        lists = np.full((len(own), self.width), -1, dtype=np.int32)
        lists[:, :width] = found.cpu().numpy()
        return lists, sure

    def _products(self, own: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(rows, columns) float32: scalar products."""
        first, second = self._rows[own], self._rows[columns].T
        if self._precision == "bfloat16" and self._wide_output():
            return torch.mm(first, second, out_dtype=torch.float32)
        return torch.mm(first, second).float()

    def _wide_output(self) -> bool:
        """Whether products of bfloat16 come in float32; else they are rounded to bfloat16."""
        version = tuple(int(part) for part in torch.__version__.split(".")[:2])
        return self._device.startswith("cuda") and version >= (2, 8)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """As `distance_bounds`, for the rounded features too."""
        dimension = self._features.shape[1]
        if self._precision == "float32":
            return distance_bounds(self._lengths, dimension)
        lower, slack = distance_bounds(self._lengths, dimension, _TENSOR_CORE_ROUNDING)
        assert self._exact is not None
        rest = np.empty(len(self._features), dtype=np.float64)
        for part in slices(len(rest), _BLOCK_ROWS):
            difference = self._exact._rows[part] - self._rows[part].float()
            rest[part] = difference.square().sum(dim=1, dtype=torch.float64).cpu().numpy()
        # x = b + r, rounded and rest: |x y - b c| <= |b| |s| + |r| |c| + |r| |s| (Cauchy-Schwarz),
        # and |b| |s| <= (ratio |b|^2 + |s|^2 / ratio) / 2 for any ratio. Twice the product counts.
        ratio = max(float(np.sqrt(rest.mean() / max(self._lengths.mean(), 1e-300))), 1e-30)
        extra = ratio * self._lengths * (1 + _BFLOAT16_ROUNDING) ** 2 + rest / ratio + rest
        if not self._wide_output():
            extra += _BFLOAT16_ROUNDING * (1 + 4 * _BFLOAT16_ROUNDING) * self._lengths
        extra *= 1 + 2.0**-20
        return lower - extra, slack + 2 * extra


@contextmanager
def _exact_products() -> Iterator[None]:
    """Without TF32, and without sums in bfloat16."""
    precision = torch.get_float32_matmul_precision()
    backend = torch.backends.cuda.matmul
    reduced = backend.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    backend.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        backend.allow_bf16_reduced_precision_reduction = reduced
