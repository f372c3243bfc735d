"""The nearest neighbours of every image, exactly, without an N x N array.

A matrix product finds candidates. Its rounding errors are bounded, so that a list of candidates is
known to hold the neighbours, or known to be doubtful; the distances of the candidates are then
measured in one canonical way, `pair_distances`. Neighbours and distances are therefore the same on
every back end. Doubtful rows, as those with very many near duplicates, go by a float64 product.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import compiled
from ..compiled import read_only
from ..errors import UserError
from ..progress import Progress
from .row_distances import (
    ROUNDING_OF_FLOAT32,
    identical_rows,
    pair_distances,
    slices,
    squared_lengths,
)

BACKENDS = ("auto", "faiss", "numpy", "torch")
PRECISIONS = ("bfloat16", "float32")
APPROXIMATIONS = ("", "hnsw", "ivf")
LEAST_APPROXIMATE = 50_000
"""Images from which on approximate neighbours may be worth their price."""

_ROWS_PER_TASK = 512
_CELLS_AT_A_TIME = 1 << 21
_COLUMNS_AT_A_TIME = 2048
_MOST_EQUAL = 8  # rows of one kind that the buffers of the search have room for
_LARGEST = float(np.finfo(np.float32).max)
_KEY = "UDA.DISTANCE.JACCARD.BACKEND"

_logger = logging.getLogger(__name__)


def nearest_neighbors(
    features: np.ndarray,
    k: int,
    *,
    backend: str = "auto",
    precision: str = "float32",
    groups: np.ndarray | None = None,
    across: bool = False,
    approximate: str = "",
    force_approximate: bool = False,
    key: str = _KEY,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of every row by squared Euclidean distance, the row itself included.

    Distances are those of `pair_distances`. Equal distances are ordered by row number, also where
    the k-th place cuts through them. A row with k or more equals of lower number is therefore
    missing from its own list. All exact back ends return the same, bit for bit.

    Args:
        features: (N, D) float32, N >= 1.
        k: at least 1.
        backend: what computes the products. `"numpy"`: its BLAS, half of all products, as the
            matrix is symmetric; `"torch"`: torch, on the GPU if there is one; `"faiss"`: a flat
            index, on GPUs if faiss has some; `"auto"`: torch if it is imported and has a GPU, else
            numpy.
        precision: `"float32"`, or `"bfloat16"` with torch: products of rounded features, faster
            where the hardware has them. Rows for which their bound is too wide are done again.
        groups: (N,) integers; if given, neighbours are of the row's own group only.
        across: with groups: neighbours are of all other groups instead.
        approximate: `""`: exact; `"ivf"` or `"hnsw"`: candidates of that faiss index, measured and
            ordered as all others, some neighbours missed.
        force_approximate: allow that below 50,000 images, where it is slower than the exact search
            and changes the clusters.
        key: the config key of the back end, for error messages.

    Returns:
        Row numbers (N, k) int64, nearest first, and their squared distances, float32 >= 0. Without
        groups there are min(k, N) columns; with groups, -1 and infinity fill the rows that have
        fewer than k neighbours, as they do where an approximate search finds fewer.

    Raises:
        UserError: no rows, or an unknown, missing or unsuitable back end.
        ValueError: k below 1, or features that are not finite.
    """
    num_rows = len(features)
    if num_rows == 0:
        raise UserError("The target set has 0 images; there is nothing to label.")
    if k < 1:
        raise ValueError(f"k is {k}, but a neighbour list has at least 1 entry.")
    check_backend(backend, key, precision=precision, approximate=approximate)
    if approximate and num_rows < LEAST_APPROXIMATE and not force_approximate:
        prefix = key.removesuffix("BACKEND")
        raise UserError(
            f"{prefix}APPROXIMATE is {approximate!r}, but below {LEAST_APPROXIMATE:,} images "
            f"(here {num_rows:,}) the exact search is faster, and approximate neighbours change "
            f"the clusters; set it to '', or {prefix}FORCE_APPROXIMATE to True."
        )
    features = read_only(features, np.float32)
    if groups is None:
        k = min(k, num_rows)
    else:
        groups = np.asarray(groups)
    lengths = squared_lengths(features)
    if not np.isfinite(lengths).all():
        raise ValueError("The features contain NaN or infinity.")
    equals = _equal_rows(features, lengths, groups)
    chosen = None if equals is None else np.flatnonzero(equals == np.arange(num_rows))
    lists, complete = _candidate_lists(
        features, lengths, k, chosen, groups, across, backend, precision, approximate
    )
    indices, squared = _nearest_of(features, lists, k)
    del lists
    every = np.arange(num_rows) if chosen is None else chosen
    doubtful = every[~complete[every]]
    if len(doubtful):
        _logger.info("%d rows have too many near neighbours for float32 products.", len(doubtful))
    for rows, among in _parts(doubtful, chosen, num_rows, groups, across):
        _by_float64_products(features, lengths, rows, among, indices, squared)
    if equals is not None:
        indices, squared = _with_equals(indices, squared, equals)
    return indices, squared


def check_backend(
    backend: str,
    key: str = _KEY,
    *,
    precision: str = "float32",
    approximate: str = "",
) -> None:
    """Raise a `UserError`, which names the key, unless `nearest_neighbors` can run like this.

    Args:
        backend: as in `nearest_neighbors`.
        key: its config key; the keys of the others differ in the last part: PRECISION, APPROXIMATE.
        precision: as in `nearest_neighbors`.
        approximate: as in `nearest_neighbors`.
    """
    prefix = key.removesuffix("BACKEND")
    for name, value, known in (
        (key, backend, BACKENDS),
        (f"{prefix}PRECISION", precision, PRECISIONS),
    ):
        if value not in known:
            raise UserError(f"{name} is {value!r}, but the known names are: {', '.join(known)}.")
    if approximate not in APPROXIMATIONS:
        raise UserError(
            f"{prefix}APPROXIMATE is {approximate!r}, but must be '' (exact), 'hnsw' or 'ivf'."
        )
    if precision == "bfloat16" and backend != "torch":
        raise UserError(
            f"{prefix}PRECISION is 'bfloat16', but only torch has such products; "
            f"set {key} to torch or {prefix}PRECISION to float32."
        )
    if approximate and backend not in ("auto", "faiss"):
        raise UserError(
            f"{prefix}APPROXIMATE is {approximate!r}, which is an index of faiss, but {key} is "
            f"{backend!r}; set that to auto or faiss."
        )
    if approximate and not _installed("faiss"):
        raise UserError(
            f"{prefix}APPROXIMATE is {approximate!r}, but faiss is not installed; "
            "install faiss-cpu or set it to ''."
        )
    if backend in ("faiss", "torch") and not _installed(backend):
        package = "faiss-cpu" if backend == "faiss" else "torch"
        raise UserError(
            f"{key} is {backend!r}, which is not installed; install {package} or set it to numpy."
        )


def _installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


def memory_needed(num_images: int, dimension: int, k: int, backend: str = "auto") -> int:
    """Bytes that `nearest_neighbors` takes at most beside the features, without groups.

    Many equal or nearly equal rows may take somewhat more.
    """
    from . import neighbors_tiles

    k = min(k, num_images)
    result = 12 * k * num_images  # row numbers, int64, and distances, float32
    if backend == "faiss":
        # the index holds a copy; candidates, int32, and their distances; for a block of rows a
        # copy, candidates, int64, with distances and bounds; what faiss itself takes for a search
        width = k + 32
        block = min(num_images, 8192)
        lists = 8 * width * num_images + block * (4 * dimension + 28 * width)
        return result + 4 * num_images * dimension + lists + (24 << 20)
    if backend == "torch":
        # candidates, int32, and their distances; a block of the product, its bounds and what sorts
        # them; the rows and columns of the block (on the CPU; a GPU has memory of its own)
        width = min(4 * k + 64, num_images)
        rows, columns = min(num_images, 1024), min(num_images, 8192)
        block = 12 * rows * columns + 4 * (rows + columns) * dimension
        return result + 8 * width * num_images + block
    return result + neighbors_tiles.memory_needed(num_images, dimension, k)


def _candidate_lists(
    features: np.ndarray,
    lengths: np.ndarray,
    k: int,
    chosen: np.ndarray | None,
    groups: np.ndarray | None,
    across: bool,
    backend: str,
    precision: str,
    approximate: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Lists (N, width) int32 that hold the k nearest rows, -1 behind the last entry.

    And (N,) bool, which of them are sure to. Rows that are not chosen have an empty list.
    """
    if backend == "auto" and not approximate:
        torch = sys.modules.get("torch")
        backend = "torch" if torch is not None and torch.cuda.is_available() else "numpy"
    if backend == "numpy":
        from . import neighbors_tiles

        return neighbors_tiles.candidate_lists(
            features, lengths, k, chosen=chosen, groups=groups, across=across
        )
    if backend == "torch":
        from . import neighbors_torch

        search: Any = neighbors_torch.Search(features, lengths, k, precision)
    else:
        from . import neighbors_faiss

        search = neighbors_faiss.Search(features, lengths, k, approximate)
    lists = np.full((len(features), search.width), -1, dtype=np.int32)
    complete = np.zeros(len(features), dtype=bool)
    every = np.arange(len(features)) if chosen is None else chosen
    for rows, among in _parts(every, chosen, len(features), groups, across):
        lists[rows], complete[rows] = search(rows, among)
    return lists, complete


def _parts(
    rows: np.ndarray,
    chosen: np.ndarray | None,
    num_rows: int,
    groups: np.ndarray | None,
    across: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows in parts that have the same possible neighbours, each part with those."""
    every = np.arange(num_rows) if chosen is None else chosen
    if groups is None:
        if len(rows):
            yield rows, every
        return
    for group in np.unique(groups[rows]):
        among = every[(groups[every] == group) != across]
        if len(among):
            yield rows[groups[rows] == group], among


def _nearest_of(features: np.ndarray, lists: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest entries of each list, by canonical distance, then by number."""
    indices = np.full((len(lists), k), -1, dtype=np.int64)
    squared = np.full((len(lists), k), np.inf, dtype=np.float32)
    if compiled.available():
        from .kernels import top_k

        measured = np.empty(lists.shape, dtype=np.float32)
        compiled.over_rows(
            lambda start, stop: top_k.measure_lists(features, lists, start, stop, measured),
            len(lists),
            _ROWS_PER_TASK,
        )
        compiled.over_rows(
            lambda start, stop: top_k.order_lists(lists, measured, start, stop, indices, squared),
            len(lists),
            _ROWS_PER_TASK,
        )
        return indices, squared
    for block in slices(len(lists), 4096):
        own = lists[block]
        rows, places = np.nonzero(own >= 0)
        measured = np.full(own.shape, np.inf, dtype=np.float32)
        measured[rows, places] = pair_distances(features, rows + block.start, own[rows, places])
        numbers = np.where(own < 0, len(features), own)
        order = np.lexsort((numbers, measured))[:, :k]
        width = order.shape[1]
        squared[block, :width] = np.take_along_axis(measured, order, axis=1)
        indices[block, :width] = np.take_along_axis(own, order, axis=1)
    return indices, squared


def _by_float64_products(
    features: np.ndarray,
    lengths: np.ndarray,
    rows: np.ndarray,
    among: np.ndarray,
    indices: np.ndarray,
    squared: np.ndarray,
) -> None:
    """Write the nearest of `among` to the rows of the result: exact, but slower."""
    k = min(indices.shape[1], len(among))
    dimension = features.shape[1]
    relative = (2 * dimension + 16) * 2.0**-53
    progress = Progress(f"Neighbours in float64 of {len(rows):,} images", len(rows))
    for part in slices(len(rows), max(1, _CELLS_AT_A_TIME // len(among))):
        own = rows[part]
        first = features[own].astype(np.float64)
        lower = np.empty((len(own), len(among)), dtype=np.float64)
        for columns in slices(len(among), _COLUMNS_AT_A_TIME):
            lower[:, columns] = first @ features[among[columns]].astype(np.float64).T
        sums = lengths[own, None] + lengths[among]
        lower *= -2
        lower += sums
        sums *= relative
        upper = lower + sums
        lower -= sums
        # The canonical distance is at least 0, in float32, and off by 3 of its roundings at most.
        lower = np.maximum(lower, 0) * (1 - 4 * ROUNDING_OF_FLOAT32) - 2.0**-148
        upper = np.maximum(upper, 0) * (1 + 4 * ROUNDING_OF_FLOAT32) + 2.0**-148
        upper[upper > _LARGEST] = np.inf
        limit = np.partition(upper, k - 1, axis=1)[:, k - 1 : k]
        places, near = np.nonzero(lower <= limit)
        numbers = among[near]
        values = pair_distances(features, own[places], numbers)
        order = np.lexsort((numbers, values, places))
        begin = np.searchsorted(places, np.arange(len(own)))[:, None]  # places ascend
        best = order[begin + np.arange(k)]
        indices[own, :k] = numbers[best]
        squared[own, :k] = values[best]
        progress.add(len(own))


def _equal_rows(
    features: np.ndarray, lengths: np.ndarray, groups: np.ndarray | None
) -> np.ndarray | None:
    """(N,) the first row of the same group that is bitwise the same; None if few rows are."""
    equals = identical_rows(features, lengths)
    if equals is None or np.bincount(equals).max() <= _MOST_EQUAL:
        return None
    if groups is None:
        return equals
    kinds = np.column_stack([equals, np.unique(groups, return_inverse=True)[1]])
    _, first, inverse = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    return first[inverse.ravel()]  # type: ignore[no-any-return]


def _with_equals(
    indices: np.ndarray, squared: np.ndarray, equals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of all rows from those of the rows that are the first of their kind.

    A row and its equals are at the same distance from everything, and it comes before them: the
    kinds of the k nearest of all rows are therefore the first of the k nearest kinds.
    """
    num_rows, k = indices.shape
    by_kind = np.argsort(equals, kind="stable")
    sizes = np.bincount(equals, minlength=num_rows)
    begin = np.cumsum(sizes) - sizes
    chosen = np.flatnonzero(sizes)
    for chunk in slices(len(chosen), max(1, _CELLS_AT_A_TIME // (k * k))):
        rows = chosen[chunk]
        kinds, values = indices[rows], squared[rows]
        times = np.where(kinds < 0, 0, np.minimum(sizes[kinds], k)).ravel()
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        numbers = by_kind[np.repeat(begin[kinds.ravel()], times) + within]
        distances = np.repeat(values.ravel(), times)
        owners = np.repeat(np.repeat(np.arange(len(rows)), k), times)
        order = np.lexsort((numbers, distances, owners))
        place = np.arange(len(owners)) - np.searchsorted(owners, owners)  # owners ascend
        kept = place < k
        indices[rows], squared[rows] = -1, np.inf
        indices[rows[owners[kept]], place[kept]] = numbers[order[kept]]
        squared[rows[owners[kept]], place[kept]] = distances[order[kept]]
    return indices[equals], squared[equals]
