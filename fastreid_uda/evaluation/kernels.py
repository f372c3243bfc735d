"""Kernels of the evaluation: distances from products, and the ranks of matches in rows.

Inputs are passed read-only, outputs writable, all contiguous: one version of each is compiled.
"""

from __future__ import annotations

import numpy as np

from ..compiled import kernel

_MASK = 0x7FFFFFFF


@kernel
def finish_cosine(block: np.ndarray, norms: np.ndarray) -> None:
    """1 + block / norms in place: (B, G) negative products, (G,) norms, float32."""
    one = np.float32(1)
    for index in range(len(block)):
        row = block[index]
        for column in range(len(row)):
            row[column] = one + row[column] / norms[column]


@kernel
def finish_euclidean(block: np.ndarray, query: np.ndarray, gallery: np.ndarray) -> None:
    """(block + query) + gallery in place: (B, G), (B,) and (G,) float32."""
    for index in range(len(block)):
        row, square = block[index], query[index]
        for column in range(len(row)):
            row[column] = (row[column] + square) + gallery[column]


@kernel
def holds_nan(block: np.ndarray) -> bool:
    """Whether a (B, G) float32 array holds NaN."""
    found = np.uint32(0)
    for index in range(len(block)):
        row = block[index]
        for column in range(len(row)):
            found = np.uint32(found | np.uint32(row[column] != row[column]))
    return found > 0


@kernel
def rank_rows(
    block: np.ndarray,
    images: np.ndarray,
    bounds: np.ndarray,
    places: np.ndarray,
    few: int,
    ranks: np.ndarray,
) -> None:
    """Ascending ranks of each query's matches.

    Args:
        block: (B, G) float32, distances without NaN.
        images: (G,) int64, see `matches.Matches`.
        bounds: (B, 4) int64, likewise.
        places: (B + 1,) int64, where the ranks of each query begin.
        few: up to so many matches are ranked by counting alone.
        ranks: the result, written from `places[0]` to `places[B]`.
    """
    for query in range(len(block)):
        row = block[query]
        start, removed_start, removed_stop, stop = bounds[query]
        own = ranks[places[query] : places[query + 1]]
        if len(own) == 0:
            continue
        before = removed_start - start
        removed = images[removed_start:removed_stop]
        matches = np.empty(len(own), np.int64)
        matches[:before] = images[start:removed_start]
        matches[before:] = images[removed_stop:stop]
        if len(own) <= few:
            _sort(matches)
            _count_ahead(row, matches, removed, own)
            _sort(own)
        else:
            _search_all(row, matches, removed, own)


@kernel
def _count_ahead(
    row: np.ndarray, matches: np.ndarray, removed: np.ndarray, ranks: np.ndarray
) -> None:
    """One pass over the row for every four matches, ascending, which the processor vectorises.

    An image counts if its distance is at most the limit of the match: that is the distance of the
    match for images on its left, and the next smaller number for itself and those on its right.
    """
    limits = np.empty(4, np.float32)
    counts = np.empty(4, np.int64)
    for first in range(0, len(matches), 4):
        group = matches[first : first + 4]
        limits[:] = np.nan
        counts[:] = 0
        for position in range(len(group)):
            limits[position] = row[group[position]]
        start = 0
        for position in range(len(group)):
            match = group[position]
            _count_within(row[start:match], limits, counts)
            limits[position] = _next_smaller(row[match])
            start = match
        _count_within(row[start:], limits, counts)
        for position in range(len(group)):
            match, rank = group[position], counts[position] + 1
            for index in range(len(removed)):
                image = removed[index]
                if row[image] < row[match] or (row[image] == row[match] and image < match):
                    rank -= 1
            ranks[first + position] = rank


@kernel
def _count_within(part: np.ndarray, limits: np.ndarray, counts: np.ndarray) -> None:
    one, two, three, four = limits[0], limits[1], limits[2], limits[3]
    a = b = c = d = np.uint32(0)  # 32 bits: as many counters in a vector as distances
    for index in range(len(part)):
        distance = part[index]
        a = np.uint32(a + np.uint32(distance <= one))
        b = np.uint32(b + np.uint32(distance <= two))
        c = np.uint32(c + np.uint32(distance <= three))
        d = np.uint32(d + np.uint32(distance <= four))
    counts[0] += a
    counts[1] += b
    counts[2] += c
    counts[3] += d


@kernel
def _next_smaller(distance: float) -> float:
    """The next smaller float32; NaN, which nothing is at most, below -infinity."""
    if distance == -np.inf:
        return np.float32(np.nan)
    return np.nextafter(distance, np.float32(-np.inf))


@kernel
def _search_all(
    row: np.ndarray, matches: np.ndarray, removed: np.ndarray, ranks: np.ndarray
) -> None:
    """One pass over the row: each image is found its place among the matches."""
    bits = row.view(np.int32)
    keys = np.empty(len(matches), np.int64)
    last = row[matches[0]]
    for position in range(len(matches)):
        keys[position] = _key(bits, matches[position])
        last = max(last, row[matches[position]])
    _sort(keys)
    ranks[:] = 0
    for image in range(len(row)):
        if row[image] <= last:
            place = _first_not_below(keys, _key(bits, image))
            if place < len(ranks):
                ranks[place] += 1
    for image in removed:
        if row[image] <= last:
            place = _first_not_below(keys, _key(bits, image))
            if place < len(ranks):
                ranks[place] -= 1
    for position in range(1, len(ranks)):
        ranks[position] += ranks[position - 1]


@kernel
def _key(bits: np.ndarray, image: int) -> int:
    """A number that orders images by distance, then by index."""
    word = np.int64(bits[image])
    if word < 0:  # sign and magnitude; -0.0 becomes 0
        word = -(word & _MASK)
    return (word << 32) + image


@kernel
def _first_not_below(keys: np.ndarray, key: int) -> int:
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _sort(values: np.ndarray) -> None:
    """Shell sort in place: NumPy's takes Numba three seconds to compile."""
    gap = len(values)
    while gap > 1:
        gap = max(1, gap * 5 // 11)
        for stop in range(gap, len(values)):
            value = values[stop]
            place = stop
            while place >= gap and values[place - gap] > value:
                values[place] = values[place - gap]
                place -= gap
            values[place] = value
