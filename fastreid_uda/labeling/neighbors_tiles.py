"""Candidates for the nearest neighbours by float32 matrix products on the CPU.

The matrix of all scalar products is computed in square tiles, of which those below the diagonal are
left out: a tile serves its rows and its columns. Every row has a small buffer; entries of a tile
that are below the row's limit are put there, and when it is full, the limit is lowered to the k-th
smallest in it. Tiles are computed and searched side by side by threads, each with one BLAS thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from math import ceil
from threading import Lock

import numpy as np
from threadpoolctl import ThreadpoolController

from .. import compiled
from ..progress import Progress
from .row_distances import distance_bounds, slices

_TILE_ROWS = 1024
_LEAST_TILE_ROWS = 256
_ROWS_PER_TASK = 1024
_ONE_SEARCH = Lock()  # BLAS has one number of threads for the whole process
_LARGEST_LENGTH = 1e37  # of squared lengths; sums of four of them are finite in float32


def candidate_lists(
    features: np.ndarray,
    lengths: np.ndarray,
    k: int,
    *,
    chosen: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    across: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """For every row a list of rows that holds its k nearest ones.

    Args:
        features: (N, D) float32, contiguous, not writable.
        lengths: (N,) float64, squared lengths of the rows.
        k: at least 1.
        chosen: (M,) int64, the rows that have and are neighbours; None: all.
        groups: (N,) integers; None: one group. Neighbours are of the same group, or, with
        across: of all other groups.

    Returns:
        Lists (N, width) int32, -1 behind the last entry, empty for rows that are not chosen; and
        (N,) bool, whether a list is sure to hold the k nearest rows, or all if there are fewer.
    """
    order = chosen
    if groups is not None:
        order = np.arange(len(features)) if chosen is None else chosen
        order = order[np.argsort(groups[order], kind="stable")]
        groups = groups[order]
    num_rows = len(features) if order is None else len(order)
    if not lengths.max() < _LARGEST_LENGTH:
        return np.full((len(features), 1), -1, np.int32), np.zeros(len(features), dtype=bool)
    ordered_lengths = lengths if order is None else lengths[order]
    lower, slack = distance_bounds(ordered_lengths, features.shape[1])
    lower, slack = lower.astype(np.float32), slack.astype(np.float32)
    width = min(capacity(k), num_rows + 8)
    buffers = (_CompiledBuffers if compiled.available() else _NumpyBuffers)(lower, slack, k, width)
    threads = compiled.num_threads()
    fewest = ceil(4 * threads**0.5)  # blocks, so that every thread has several tiles
    size = min(max(ceil(num_rows / fewest), _LEAST_TILE_ROWS), _TILE_ROWS, num_rows)
    blocks = _blocks(num_rows, groups, size)
    tiles = list(_tiles(blocks, groups, across))
    _search(features, order, groups, across, blocks, tiles, buffers, threads)
    found, counts = buffers.finish()
    needed = np.minimum(k, _numbers_of_eligible(num_rows, groups, across))
    complete = counts >= needed
    if order is None:
        return found, complete
    lists = np.full((len(features), width), -1, dtype=np.int32)
    all_complete = np.zeros(len(features), dtype=bool)
    for part in slices(num_rows, 1 << 14):
        own = found[part]
        lists[order[part]] = np.where(own < 0, -1, order[own])
    all_complete[order] = complete
    return lists, all_complete


def capacity(k: int) -> int:
    """Entries of a row's buffer: room to collect as many again before it is compacted."""
    return 2 * k + 36


def memory_needed(num_images: int, dimension: int, k: int) -> int:
    """Bytes that `candidate_lists` takes at most, without groups."""
    size = min(_TILE_ROWS, num_images)
    # a buffer per image; the product of each thread; what BLAS packs of the two factors
    per_thread = 4 * size * size + (8 << 20)
    return 8 * capacity(k) * num_images + compiled.num_threads() * per_thread


def _numbers_of_eligible(
    num_rows: int, groups: np.ndarray | None, across: bool
) -> int | np.ndarray:
    if groups is None:
        return num_rows
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return (num_rows - sizes if across else sizes)[inverse]  # type: ignore[no-any-return]


def _blocks(num_rows: int, groups: np.ndarray | None, size: int) -> list[slice]:
    """Blocks of at most `size` rows; of one group, or of several whole ones if they are small."""
    borders = [0] if groups is None else [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist()]
    blocks, start = [], 0
    for border, stop in zip(borders, [*borders[1:], num_rows], strict=True):
        small = 4 * (stop - border) < size and groups is not None
        if border > start and (not small or stop - start > size):
            blocks.append(slice(start, border))
            start = border
        if not small:
            even = ceil((stop - start) / ceil((stop - start) / size))
            even = min(size, 16 * ceil(even / 16))
            blocks += [slice(start + s.start, start + s.stop) for s in slices(stop - start, even)]
            start = stop
    if start < num_rows:
        blocks.append(slice(start, num_rows))
    return blocks


def _tiles(
    blocks: list[slice], groups: np.ndarray | None, across: bool
) -> Iterator[tuple[int, int]]:
    """Pairs of blocks with pairs of rows that may be neighbours, those on the diagonal first."""

    def same_group(one: slice, other: slice) -> bool:
        return groups is None or bool(groups[one.start] == groups[other.stop - 1])

    for offset in range(len(blocks)):
        for i in range(len(blocks) - offset):
            one, other = blocks[i], blocks[i + offset]
            mixed = offset == 0 and not same_group(one, one)
            if mixed or same_group(one, other) != across:
                yield i, i + offset


def _search(
    features: np.ndarray,
    order: np.ndarray | None,
    groups: np.ndarray | None,
    across: bool,
    blocks: list[slice],
    tiles: list[tuple[int, int]],
    buffers: _Buffers,
    threads: int,
) -> None:
    """Put all tiles into the buffers."""
    sizes = [block.stop - block.start for block in blocks]
    largest = max(sizes)
    progress = Progress(
        f"Nearest neighbours of {sum(sizes):,} images", sum(sizes[i] * sizes[j] for i, j in tiles)
    )
    waiting = iter(tiles)
    locks = [Lock() for _ in blocks]
    turn = Lock()

    def rows_of(block: slice, space: np.ndarray | None) -> np.ndarray:
        if order is None or space is None:
            return features[block]
        return np.take(features, order[block], axis=0, out=space[: block.stop - block.start])

    def work() -> None:
        product = np.empty(largest * largest, dtype=np.float32)
        spaces: list[np.ndarray | None] = [None, None]
        if order is not None:
            spaces = [np.empty((largest, features.shape[1]), dtype=np.float32) for _ in range(2)]
        while True:
            with turn:
                i, j = next(waiting, (-1, -1))
            if i < 0:
                return
            one, other = blocks[i], blocks[j]
            first = rows_of(one, spaces[0])
            second = first if i == j else rows_of(other, spaces[1])
            tile = product[: len(first) * len(second)].reshape(len(first), len(second))
            np.matmul(first, second.T, out=tile)
            if i == j and groups is not None and groups[one.start] != groups[one.stop - 1]:
                tile[(groups[one, None] == groups[one]) == across] = -np.inf
            with ExitStack() as stack:
                for number in sorted({i, j}):  # ascending: no two threads wait for each other
                    stack.enter_context(locks[number])
                buffers.add(tile, one.start, other.start, both=i != j)
            with turn:
                progress.add(tile.size)

    blas = ThreadpoolController().select(user_api="blas") if len(blocks) > 1 else None
    if threads == 1 or blas is None or not len(blas):
        work()
        return
    with _ONE_SEARCH, blas.limit(limits=1), ThreadPoolExecutor(threads) as executor:
        for done in [executor.submit(work) for _ in range(threads)]:
            done.result()


class _Buffers:
    """The entries of each row that may be among its k smallest.

    Attributes:
        limits: (N,) float32; an entry whose lower bound is above it is not among the k smallest.
        bounds: (N, width) float32, lower bounds.
        found: (N, width) int32, the columns that they belong to.
    """

    def __init__(self, lower: np.ndarray, slack: np.ndarray, k: int, width: int) -> None:
        self._lower, self._slack, self._k = lower, slack, k
        # Not infinity, which is the bound of a pair that may not be neighbors.
        self.limits = np.full(len(lower), np.finfo(np.float32).max, dtype=np.float32)
        self.bounds = np.empty((len(lower), width), dtype=np.float32)
        self.found = np.empty((len(lower), width), dtype=np.int32)

    def add(self, tile: np.ndarray, first_row: int, first_column: int, *, both: bool) -> None:
        """Add the columns of a tile of scalar products to its rows, and if both, the reverse."""
        raise NotImplementedError

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Lists (N, width) int32, -1 behind the last entry, and their sizes, -1 if incomplete."""
        raise NotImplementedError


class _CompiledBuffers(_Buffers):
    def __init__(self, lower: np.ndarray, slack: np.ndarray, k: int, width: int) -> None:
        super().__init__(lower, slack, k, width)
        self._counts = np.zeros(len(lower), dtype=np.int32)
        self._started = np.zeros(len(lower), dtype=bool)

    def add(self, tile: np.ndarray, first_row: int, first_column: int, *, both: bool) -> None:
        from .kernels import top_k

        if not self._started[first_row]:
            self._start(tile, first_row, first_column)
        if both and not self._started[first_column]:
            self._start(np.ascontiguousarray(tile.T), first_column, first_row)
        top_k.scan(
            tile,
            first_row,
            first_column,
            both,
            self._lower,
            self._slack,
            self._k,
            self.limits,
            self._counts,
            self.bounds,
            self.found,
        )

    def _start(self, tile: np.ndarray, first_row: int, first_column: int) -> None:
        from .kernels import top_k

        top_k.start_limits(
            tile, first_row, first_column, self._lower, self._slack, self._k, self.limits
        )
        self._started[first_row : first_row + len(tile)] = True

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        from .kernels import top_k

        def finish(start: int, stop: int) -> None:
            top_k.finish_lists(
                start,
                stop,
                self._slack,
                self._k,
                self.limits,
                self._counts,
                self.bounds,
                self.found,
            )

        compiled.over_rows(finish, len(self.found), _ROWS_PER_TASK)
        return self.found, self._counts


class _NumpyBuffers(_Buffers):
    """Keeps the entries of the smallest lower bounds, and the smallest that had to go."""

    def __init__(self, lower: np.ndarray, slack: np.ndarray, k: int, width: int) -> None:
        super().__init__(lower, slack, k, width)
        self.bounds[:] = np.inf
        self.found[:] = -1
        self._gone = np.full(len(lower), np.inf, dtype=np.float32)

    def add(self, tile: np.ndarray, first_row: int, first_column: int, *, both: bool) -> None:
        tile *= -2
        tile += self._lower[first_column : first_column + tile.shape[1]]
        tile += self._lower[first_row : first_row + tile.shape[0], None]
        self._add_columns(tile, first_row, first_column)
        if both:
            self._add_columns(tile.T, first_column, first_row)

    def _add_columns(self, lower: np.ndarray, first_row: int, first_column: int) -> None:
        hits = lower <= self.limits[first_row : first_row + len(lower), None]
        per_row = np.count_nonzero(hits, axis=1)
        own = np.flatnonzero(per_row)
        if not len(own):
            return
        places, columns = np.nonzero(hits[own])
        values = lower[own[places], columns]
        per_row = per_row[own]
        new_bounds = np.full((len(own), per_row.max()), np.inf, dtype=np.float32)
        new_found = np.full(new_bounds.shape, -1, dtype=np.int32)
        slots = np.arange(len(places)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
        new_bounds[places, slots] = values
        new_found[places, slots] = columns + first_column
        rows = own + first_row
        bounds = np.hstack([self.bounds[rows], new_bounds])
        found = np.hstack([self.found[rows], new_found])
        width = self.bounds.shape[1]
        nearest = np.argpartition(bounds, width, axis=1)
        first_gone = np.take_along_axis(bounds, nearest[:, width : width + 1], axis=1)[:, 0]
        self._gone[rows] = np.minimum(self._gone[rows], first_gone)
        bounds = np.take_along_axis(bounds, nearest[:, :width], axis=1)
        found = np.take_along_axis(found, nearest[:, :width], axis=1)
        self.bounds[rows], self.found[rows] = bounds, found
        if self._k <= width:
            upper = bounds + (self._slack[rows, None] + self._slack[found])
            limits = np.partition(upper, self._k - 1, axis=1)[:, self._k - 1]
            self.limits[rows] = np.minimum(self.limits[rows], limits)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        self.found[self.bounds > self.limits[:, None]] = -1
        counts = np.count_nonzero(self.found >= 0, axis=1)
        counts[self._gone <= self.limits] = -1
        for part in slices(len(self.found), 1 << 14):
            last = np.argsort(self.found[part] < 0, axis=1, kind="stable")
            self.found[part] = np.take_along_axis(self.found[part], last, axis=1)
        return self.found, counts
