"""Kernels that pass once over a block of distances.

A block is (R, C) float32, contiguous. Of a block on the diagonal (`upper`) only the entries above
its own diagonal count. Kernels do the rows start..stop-1.
"""

from __future__ import annotations

import math

import numpy as np

from ...compiled import kernel, kernel_with_free_sums


@kernel
def to_distances(
    block: np.ndarray,
    row_norms: np.ndarray,
    column_norms: np.ndarray,
    euclidean: bool,
    start: int,
    stop: int,
) -> None:
    """Turn products into Euclidean distances, or into 1 - product; in place.

    Args:
        block: products.
        row_norms: (R,) float32, squared.
        column_norms: (C,) float32, squared.
        euclidean: which of the two.
        start: first row.
        stop: the row after the last.
    """
    zero, one, two = np.float32(0), np.float32(1), np.float32(-2)
    for i in range(start, stop):
        if euclidean:
            for j in range(block.shape[1]):
                squared = (block[i, j] * two + column_norms[j]) + row_norms[i]
                block[i, j] = math.sqrt(squared if squared > zero else zero)
        else:
            for j in range(block.shape[1]):
                distance = one - block[i, j]
                block[i, j] = distance if distance > zero else zero


@kernel
def select_below(
    block: np.ndarray,
    row_cameras: np.ndarray,
    column_cameras: np.ndarray,
    upper: bool,
    bound: np.float32,
    places: np.ndarray,
    values: np.ndarray,
    start: int,
    stop: int,
) -> int:
    """Pick the distances below a bound between different cameras, in order; how many they are.

    Args:
        block: distances.
        row_cameras: (R,) int64.
        column_cameras: (C,) int64.
        upper: see above.
        bound: float32.
        places: (R * C,) int32, place i * C + j of each, written from start * C on.
        values: (R * C,) float32, likewise.
        start: first row.
        stop: the row after the last.
    """
    columns = block.shape[1]
    found = start * columns
    for i in range(start, stop):
        for j in range(i + 1 if upper else 0, columns):
            if block[i, j] < bound and row_cameras[i] != column_cameras[j]:
                places[found] = i * columns + j
                values[found] = block[i, j]
                found += 1
    return found - start * columns


@kernel_with_free_sums
def class_sums(
    block: np.ndarray,
    row_labels: np.ndarray,
    column_labels: np.ndarray,
    upper: bool,
    rows: np.ndarray,
    columns: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add the distances of rows, and of columns, to all and to those of the same label.

    Args:
        block: distances.
        row_labels: (R,) int32.
        column_labels: (C,) int32.
        upper: see above.
        rows: (2, R) float64: over the columns of the same label, and over all; added to.
        columns: (2, C) float64: likewise over these rows.
        start: first row.
        stop: the row after the last.
    """
    zero = np.float64(0)
    for i in range(start, stop):
        own = everyone = zero
        label = row_labels[i]
        for j in range(i + 1 if upper else 0, block.shape[1]):
            distance = np.float64(block[i, j])
            same = distance if column_labels[j] == label else zero
            own += same
            everyone += distance
            columns[0, j] += same
            columns[1, j] += distance
        rows[0, i] += own
        rows[1, i] += everyone
