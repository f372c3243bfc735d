"""Kernels of the Jaccard distance: each treats a block of rows and leaves the rest to its caller.

They return how many entries every row of the block has, (stop - start,) int64, and the entries, row
after row. Inputs are read-only, row pointers int64, row numbers int32, values float32, all
contiguous: one version of each kernel is compiled.
"""

from __future__ import annotations

import numpy as np

from ...compiled import kernel

# The place of the only bit that is set in x is _BIT[x * _SPREAD >> 58]: every six bits in a row of
# the factor are different.
_SPREAD = np.uint64(0x03F79D71B4CB0A89)
_BIT = np.empty(64, dtype=np.int64)
for _place in range(64):
    _BIT[(int(_SPREAD) << _place & (1 << 64) - 1) >> 58] = _place


@kernel
def _insert(ordered: np.ndarray, first: int, filled: int, number: int) -> None:
    """Put a number into its place among `ordered[first:filled]`, which ascends."""
    place = filled
    while place > first and ordered[place - 1] > number:
        ordered[place] = ordered[place - 1]
        place -= 1
    ordered[place] = number


@kernel
def reciprocal_rows(
    lists: np.ndarray, width: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """The members of the first `width` places of the lists that have the row in theirs."""
    counts = np.empty(stop - start, dtype=np.int64)
    members = np.empty((stop - start) * width, dtype=np.int32)
    filled = 0
    for i in range(start, stop):
        first, row = filled, np.int32(i)
        for place in range(width):
            j = lists[i, place]
            if j < 0:
                continue
            mutual = 0
            for other in range(width):  # to the end: vectorised, that is faster
                mutual += lists[j, other] == row
            if mutual:
                _insert(members, first, filled, j)
                filled += 1
        counts[i - start] = filled - first
    return counts, members[:filled]


@kernel
def expanded_rows(
    pointers: np.ndarray,
    members: np.ndarray,
    half_pointers: np.ndarray,
    half_members: np.ndarray,
    start: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The sets of the rows, united with the half sets of which they hold more than two thirds."""
    most = 0
    for i in range(start, stop):
        most += pointers[i + 1] - pointers[i]
        for own in range(pointers[i], pointers[i + 1]):
            most += half_pointers[members[own] + 1] - half_pointers[members[own]]
    counts = np.empty(stop - start, dtype=np.int64)
    united = np.empty(most, dtype=np.int32)
    # 2 i + 1: in the set of row i; 2 i + 2: only in its expansion.
    marks = np.zeros(len(pointers) - 1, dtype=np.int64)
    filled = 0
    for i in range(start, stop):
        first, mark = filled, 2 * i + 1
        for own in range(pointers[i], pointers[i + 1]):
            marks[members[own]] = mark
            united[filled] = members[own]
            filled += 1
        for own in range(pointers[i], pointers[i + 1]):
            c = members[own]
            common = 0
            for half in range(half_pointers[c], half_pointers[c + 1]):
                common += marks[half_members[half]] == mark
            if 3 * common > 2 * (half_pointers[c + 1] - half_pointers[c]):
                for half in range(half_pointers[c], half_pointers[c + 1]):
                    j = half_members[half]
                    if marks[j] < mark:
                        marks[j] = mark + 1
                        _insert(united, first, filled, j)
                        filled += 1
        counts[i - start] = filled - first
    return counts, united[:filled]


@kernel
def listed_distances(
    pointers: np.ndarray,
    members: np.ndarray,
    lists: np.ndarray,
    squared: np.ndarray,
    start: int,
    stop: int,
    distances: np.ndarray,
) -> None:
    """The squared distances of members from the list of the row or of the member; -1: in none."""
    for i in range(start, stop):
        for entry in range(pointers[i], pointers[i + 1]):
            j = members[entry]
            distances[entry] = -1
            for place in range(lists.shape[1]):
                if lists[i, place] == j:
                    distances[entry] = squared[i, place]
                    break
            else:
                for place in range(lists.shape[1]):
                    if lists[j, place] == i:
                        distances[entry] = squared[j, place]
                        break


@kernel
def averaged_rows(
    pointers: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    neighbors: np.ndarray,
    start: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The means of the weights of the neighbours of each row, added in the order of the list."""
    most, longest = 0, 0
    for i in range(start, stop):
        length = 0
        for j in neighbors[i]:
            if j >= 0:
                length += pointers[j + 1] - pointers[j]
        most += length
        longest = max(longest, length)
    counts = np.empty(stop - start, dtype=np.int64)
    kept_columns = np.empty(most, dtype=np.int32)
    means = np.empty(most, dtype=np.float32)
    # The sum so far and the next one change places.
    sum_columns = np.empty((2, longest), dtype=np.int32)
    sums = np.empty((2, longest), dtype=np.float32)
    filled = 0
    for i in range(start, stop):
        length, images, now = 0, 0, 0
        for j in neighbors[i]:
            if j < 0:
                continue
            images += 1
            left, right, end, length_before = 0, pointers[j], pointers[j + 1], length
            length = 0
            while left < length_before or right < end:
                if right == end:
                    column, value = sum_columns[now, left], sums[now, left]
                    left += 1
                elif left == length_before or columns[right] < sum_columns[now, left]:
                    column, value = columns[right], weights[right]
                    right += 1
                elif sum_columns[now, left] < columns[right]:
                    column, value = sum_columns[now, left], sums[now, left]
                    left += 1
                else:
                    column, value = columns[right], sums[now, left] + weights[right]
                    left += 1
                    right += 1
                sum_columns[1 - now, length], sums[1 - now, length] = column, value
                length += 1
            now = 1 - now
        first = filled
        for place in range(length):
            if sums[now, place] != 0:
                kept_columns[filled] = sum_columns[now, place]
                means[filled] = sums[now, place] / np.float32(images)
                filled += 1
        counts[i - start] = filled - first
    return counts, kept_columns[:filled], means[:filled]


@kernel
def shared_weights(
    pointers: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    list_pointers: np.ndarray,
    list_rows: np.ndarray,
    list_weights: np.ndarray,
    least: np.float32,
    own_share: np.float32,
    like: np.ndarray,
    start: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """s_ij = sum_m min(V_im, V_jm) of all j where it is `least` or more, and of j = i.

    Added in the order of m, in the type of `like`, rounded to float32 at the end: s_ij and s_ji
    have the same bits. The inverted list of m holds the rows with a weight at m. All weights are
    above 0. s_ii is stored as `own_share`, if that is not 0.
    """
    num_rows = len(list_pointers) - 1
    sums = np.zeros(num_rows, dtype=like.dtype)
    met = np.empty(num_rows + 1, dtype=np.uint32)
    # The rows to be stored as bits, and a bit for every 64 of them: a sort by marking.
    one = np.uint64(1)
    words = np.zeros((num_rows >> 6) + 1, dtype=np.uint64)
    groups = np.zeros((num_rows >> 12) + 1, dtype=np.uint64)
    counts = np.empty(stop - start, dtype=np.int64)
    found = np.empty(num_rows + 32 * (stop - start), dtype=np.int32)
    shares = np.empty(len(found), dtype=np.float32)
    filled = 0
    for i in range(start, stop):
        number = 0
        for entry in range(pointers[i], pointers[i + 1]):
            m, own = columns[entry], weights[entry]
            for place in range(list_pointers[m], list_pointers[m + 1]):
                j = list_rows[place]
                before = sums[j]
                met[number] = j
                number += before == 0
                sums[j] = before + min(own, list_weights[place])
        if sums[i] == 0:
            met[number] = i
            number += 1
        if own_share != 0:
            sums[i] = own_share
        if filled + number > len(found):
            length = max(2 * len(found), filled + number)
            longer, longer_shares = np.empty(length, np.int32), np.empty(length, np.float32)
            for place in range(filled):
                longer[place], longer_shares[place] = found[place], shares[place]
            found, shares = longer, longer_shares
        for place in range(number):
            j = met[place]
            if np.float32(sums[j]) >= least or j == i:
                words[j >> 6] |= one << (j & 63)
                groups[j >> 12] |= one << (j >> 6 & 63)
            else:
                sums[j] = 0
        first = filled
        for group in range(len(groups)):
            while groups[group] != 0:
                lowest = groups[group] & (~groups[group] + one)
                groups[group] ^= lowest
                word = group << 6 | _BIT[lowest * _SPREAD >> 58]
                while words[word] != 0:
                    lowest = words[word] & (~words[word] + one)
                    words[word] ^= lowest
                    j = word << 6 | _BIT[lowest * _SPREAD >> 58]
                    found[filled], shares[filled] = j, sums[j]
                    sums[j] = 0
                    filled += 1
        counts[i - start] = filled - first
    return counts, found[:filled], shares[:filled]
