"""Kernels of the neighbour search: distances of pairs, and the smallest entries of rows.

Features and other inputs are passed read-only, outputs writable, all contiguous: one version of
each kernel is compiled.
"""

from __future__ import annotations

import numpy as np

from ...compiled import kernel

LANES = 64
"""Partial sums of a canonical distance, see `neighbors.pair_distances`."""
_SCANNED = 64  # entries that are compared at once
_TWO = np.float32(2)  # an integer 2 would make float64 of the entries


@kernel
def pair_distances(
    features: np.ndarray, rows: np.ndarray, columns: np.ndarray, squared: np.ndarray
) -> None:
    """Canonical squared distances (P,) float32 of rows (P,) int64 and columns (P,) int64."""
    sums = np.empty(LANES, dtype=np.float64)
    for pair in range(len(rows)):
        own, other = features[rows[pair]], features[columns[pair]]
        squared[pair] = np.float32(_sum_of_squares(own, other, sums))


@kernel
def squared_lengths(features: np.ndarray, start: int, stop: int, lengths: np.ndarray) -> None:
    """Squared lengths (N,) float64 of rows start to stop, with the same sums."""
    sums = np.empty(LANES, dtype=np.float64)
    zeros = np.zeros(features.shape[1], dtype=np.float32)
    for row in range(start, stop):
        lengths[row] = _sum_of_squares(features[row], zeros, sums)


@kernel
def _sum_of_squares(one: np.ndarray, other: np.ndarray, sums: np.ndarray) -> float:
    dimension = len(one)
    sums[:] = 0
    start = 0
    while start + 4 * LANES <= dimension:  # four additions per load and store of a partial sum
        for lane in range(LANES):
            at = start + lane
            first = np.float64(one[at] - other[at])
            second = np.float64(one[at + LANES] - other[at + LANES])
            third = np.float64(one[at + 2 * LANES] - other[at + 2 * LANES])
            fourth = np.float64(one[at + 3 * LANES] - other[at + 3 * LANES])
            total = sums[lane] + first * first
            total += second * second
            total += third * third
            sums[lane] = total + fourth * fourth
        start += 4 * LANES
    while start < dimension:
        for lane in range(min(LANES, dimension - start)):
            difference = np.float64(one[start + lane] - other[start + lane])
            sums[lane] += difference * difference
        start += LANES
    half = LANES // 2
    while half:
        for lane in range(half):
            sums[lane] += sums[half + lane]
        half //= 2
    return sums[0]  # type: ignore[no-any-return]


@kernel
def scan(
    products: np.ndarray,
    first_row: int,
    first_column: int,
    both: bool,
    lower: np.ndarray,
    slack: np.ndarray,
    k: int,
    limits: np.ndarray,
    counts: np.ndarray,
    bounds: np.ndarray,
    found: np.ndarray,
) -> None:
    """Put the entries of a tile that may be among the k smallest into the buffers of its rows.

    Args:
        products: (m, n) float32, scalar products of m rows and n columns.
        first_row: the number of the tile's first row.
        first_column: of its first column.
        both: whether the columns collect the rows as well as the rows the columns.
        lower: (N,) float32; lower[i] + lower[j] - 2 * product is at most the distance of i and j.
        slack: (N,) float32; that plus slack[i] + slack[j] is at least the distance.
        k: the k smallest are wanted.
        limits: (N,) float32, changed: no lower bound above it belongs to the k smallest.
        counts: (N,) int32, changed: entries in the buffers; -1: there were too many.
        bounds: (N, capacity) float32, changed: lower bounds, the buffers.
        found: (N, capacity) int32, changed: the columns that they belong to.
    """
    num_rows, num_columns = products.shape
    scratch = np.empty(bounds.shape[1], dtype=np.float32)
    places = np.empty(_SCANNED, dtype=np.int64)
    others = lower[first_column : first_column + num_columns]
    theirs = limits[first_column : first_column + num_columns]
    if not both:
        theirs = np.full(num_columns, -np.inf, dtype=np.float32)
    for m in range(num_rows):
        row = first_row + m
        own = lower[row]
        entries = products[m]
        for start in range(0, num_columns, _SCANNED):
            stop = min(start + _SCANNED, num_columns)
            if not _any_hit(entries, own, others, limits[row], theirs, start, stop):
                continue
            hits = _hits(entries, own, others, limits[row], theirs, start, stop, places)
            for n in places[:hits]:
                column = first_column + n
                bound = own + others[n] - _TWO * entries[n]
                if bound <= limits[row] and _is_full(row, column, bound, counts, bounds, found):
                    _make_room(row, slack, k, limits, counts, bounds, found, scratch)
                if bound <= theirs[n] and _is_full(column, row, bound, counts, bounds, found):
                    _make_room(column, slack, k, limits, counts, bounds, found, scratch)


@kernel
def start_limits(
    products: np.ndarray,
    first_row: int,
    first_column: int,
    lower: np.ndarray,
    slack: np.ndarray,
    k: int,
    limits: np.ndarray,
) -> None:
    """Lower the limits of a tile's rows to about their k-th smallest entry, at once.

    Columns are dealt to piles; the smallest upper bounds of k piles belong to k columns. For the
    arguments see `scan`.
    """
    num_rows, num_columns = products.shape
    piles = 64 * ((3 * k + 63) // 64)
    smallest = np.empty(piles, dtype=np.float32)
    others = lower[first_column : first_column + num_columns]
    theirs = slack[first_column : first_column + num_columns]
    for m in range(num_rows):
        row = first_row + m
        entries = products[m]
        smallest[:] = np.inf
        for start in range(0, num_columns, piles):
            size = min(piles, num_columns - start)
            _keep_smaller(smallest, entries, lower[row], others, slack[row], theirs, start, size)
        limits[row] = min(limits[row], _kth_smallest(smallest, piles, k))


@kernel
def _keep_smaller(
    smallest: np.ndarray,
    products: np.ndarray,
    own: float,
    lower: np.ndarray,
    own_slack: float,
    slack: np.ndarray,
    start: int,
    size: int,
) -> None:
    for n in range(np.uint64(0), np.uint64(size)):
        at = np.uint64(start) + n
        bound = own + lower[at] - _TWO * products[at]
        upper = bound + (own_slack + slack[at])
        smallest[n] = upper if upper < smallest[n] else smallest[n]


@kernel
def _any_hit(
    products: np.ndarray,
    own: float,
    lower: np.ndarray,
    limit: float,
    limits: np.ndarray,
    start: int,
    stop: int,
) -> bool:
    """Whether an entry from start to stop is within the limit of the row or of its column.

    Written as LLVM vectorizes it: unsigned indices, no branch, no integers of 64 bits.
    """
    hit = False
    for n in range(np.uint64(start), np.uint64(stop)):
        either = limits[n] if limits[n] > limit else limit
        hit = hit | (own + lower[n] - _TWO * products[n] <= either)
    return hit


@kernel
def _hits(
    products: np.ndarray,
    own: float,
    lower: np.ndarray,
    limit: float,
    limits: np.ndarray,
    start: int,
    stop: int,
    places: np.ndarray,
) -> int:
    """The number of entries that are, and their places."""
    count = np.uint64(0)
    for n in range(np.uint64(start), np.uint64(stop)):
        either = limits[n] if limits[n] > limit else limit
        places[count] = n
        count += np.uint64(own + lower[n] - _TWO * products[n] <= either)
    return count


@kernel
def _is_full(
    row: int,
    column: int,
    bound: float,
    counts: np.ndarray,
    bounds: np.ndarray,
    found: np.ndarray,
) -> bool:
    """Put an entry into the buffer of a row; whether that is full now."""
    count = np.uint64(counts[row])
    bounds[row, count] = bound
    found[row, count] = column
    counts[row] = count + np.uint64(1)
    return count + np.uint64(1) == np.uint64(bounds.shape[1])


@kernel
def _make_room(
    row: int,
    slack: np.ndarray,
    k: int,
    limits: np.ndarray,
    counts: np.ndarray,
    bounds: np.ndarray,
    found: np.ndarray,
    scratch: np.ndarray,
) -> None:
    compact(row, slack, k, limits, counts, bounds, found, scratch)
    if counts[row] > bounds.shape[1] - 8:  # from here on every other entry would need room
        counts[row] = -1
        limits[row] = -np.inf


@kernel
def compact(
    row: int,
    slack: np.ndarray,
    k: int,
    limits: np.ndarray,
    counts: np.ndarray,
    bounds: np.ndarray,
    found: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """Lower the limit of a row to the k-th smallest upper bound and drop what is above it."""
    count = counts[row]
    if count < k:
        return
    for n in range(count):
        scratch[n] = bounds[row, n] + (slack[row] + slack[found[row, n]])
    limit = _kth_smallest(scratch, count, k)
    if limit < limits[row]:
        limits[row] = limit
    kept = 0
    for n in range(count):
        if bounds[row, n] <= limits[row]:
            bounds[row, kept] = bounds[row, n]
            found[row, kept] = found[row, n]
            kept += 1
    counts[row] = kept


@kernel
def _kth_smallest(values: np.ndarray, count: int, k: int) -> float:
    """The k-th smallest of the first values, which change places (Hoare's selection)."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while pivot < values[right]:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            break
    return values[k - 1]


@kernel
def finish_lists(
    start: int,
    stop: int,
    slack: np.ndarray,
    k: int,
    limits: np.ndarray,
    counts: np.ndarray,
    bounds: np.ndarray,
    found: np.ndarray,
) -> None:
    """Compact rows start to stop a last time and fill the rest of their lists with -1."""
    scratch = np.empty(bounds.shape[1], dtype=np.float32)
    for row in range(start, stop):
        compact(row, slack, k, limits, counts, bounds, found, scratch)
        found[row, max(counts[row], 0) :] = -1


@kernel
def measure_lists(
    features: np.ndarray,
    lists: np.ndarray,
    start: int,
    stop: int,
    measured: np.ndarray,
) -> None:
    """Canonical distances of rows start to stop to their lists, infinity where an entry is -1.

    Pairs in each other's list are measured once, in the list of the row of lower number; the place
    in the other list is left at -1, see `order_lists`.

    Args:
        features: (N, D) float32.
        lists: (N, width) int32 row numbers; -1 for none, only at the end.
        start: first row.
        stop: last row plus 1.
        measured: (N, width) float32, the rows start to stop are written.
    """
    sums = np.empty(2 * LANES, dtype=np.float64)
    for row in range(start, stop):
        waiting = -1  # a place whose distance is measured together with the next one
        for place in range(lists.shape[1]):
            other = lists[row, place]
            if other < 0:
                measured[row, place:] = np.inf
                break
            if other < row and _place_of(row, lists[other]) >= 0:
                measured[row, place] = -1
            elif waiting < 0:
                waiting = place
            else:
                earlier = features[lists[row, waiting]]
                _two_sums_of_squares(features[row], earlier, features[other], sums)
                measured[row, waiting] = np.float32(sums[0])
                measured[row, place] = np.float32(sums[LANES])
                waiting = -1
        if waiting >= 0:
            other = lists[row, waiting]
            squares = _sum_of_squares(features[row], features[other], sums[:LANES])
            measured[row, waiting] = np.float32(squares)


@kernel
def _two_sums_of_squares(
    one: np.ndarray, first: np.ndarray, second: np.ndarray, sums: np.ndarray
) -> None:
    """As twice `_sum_of_squares`, to sums[0] and sums[LANES]; memory is waited for once."""
    dimension = len(one)
    sums[:] = 0
    start = 0
    while start + 2 * LANES <= dimension:
        for lane in range(LANES):
            at = start + lane
            near = np.float64(one[at] - first[at])
            far = np.float64(one[at + LANES] - first[at + LANES])
            total = sums[lane] + near * near
            sums[lane] = total + far * far
            near = np.float64(one[at] - second[at])
            far = np.float64(one[at + LANES] - second[at + LANES])
            total = sums[LANES + lane] + near * near
            sums[LANES + lane] = total + far * far
        start += 2 * LANES
    while start < dimension:
        for lane in range(min(LANES, dimension - start)):
            difference = np.float64(one[start + lane] - first[start + lane])
            sums[lane] += difference * difference
            difference = np.float64(one[start + lane] - second[start + lane])
            sums[LANES + lane] += difference * difference
        start += LANES
    half = LANES // 2
    while half:
        for lane in range(half):
            sums[lane] += sums[half + lane]
            sums[LANES + lane] += sums[LANES + half + lane]
        half //= 2


@kernel
def _place_of(number: int, entries: np.ndarray) -> int:
    for place in range(len(entries)):
        if entries[place] == number:
            return place
    return -1


@kernel
def order_lists(
    lists: np.ndarray,
    measured: np.ndarray,
    start: int,
    stop: int,
    indices: np.ndarray,
    squared: np.ndarray,
) -> None:
    """The nearest entries of rows start to stop, by distance, then by number.

    Args:
        lists: (N, width) int32, as in `measure_lists`.
        measured: (N, width) float32, from there, of all rows.
        start: first row.
        stop: last row plus 1.
        indices: (N, k) int64, k <= width; the rows start to stop are written.
        squared: (N, k) float32, likewise.
    """
    k = indices.shape[1]
    for row in range(start, stop):
        filled = 0
        for place in range(lists.shape[1]):
            other = np.int64(lists[row, place])
            if other < 0:
                break
            value = measured[row, place]
            if value < 0:
                value = measured[other, _place_of(row, lists[other])]
            if filled < k:
                filled += 1
            elif value > squared[row, k - 1] or (
                value == squared[row, k - 1] and other > indices[row, k - 1]
            ):
                continue
            at = filled - 1  # insertion into the sorted places before it
            while at > 0 and (
                squared[row, at - 1] > value
                or (squared[row, at - 1] == value and indices[row, at - 1] > other)
            ):
                squared[row, at] = squared[row, at - 1]
                indices[row, at] = indices[row, at - 1]
                at -= 1
            squared[row, at] = value
            indices[row, at] = other
        indices[row, filled:] = -1
        squared[row, filled:] = np.inf
