"""Kernels of k-means: products with a few rows, and the two nearest centroids.

All arrays are float32 and contiguous unless a shape says otherwise.
"""

from __future__ import annotations

import numpy as np

from ...compiled import kernel, kernel_with_free_sums


@kernel_with_free_sums
def products(
    features: np.ndarray, chosen: np.ndarray, out: np.ndarray, start: int, stop: int
) -> None:
    """out[k, i] = features[i] . chosen[k] for the rows i in start..stop-1.

    Four rows by four at a time: each value that is loaded is used four times, and the features come
    from memory once. Where four do not divide the number, the last row is done more than once.

    Args:
        features: (N, D).
        chosen: (M, D).
        out: (M, N).
        start: first row.
        stop: the row after the last.
    """
    zero = np.float32(0)
    last_row, last = stop - 1, len(chosen) - 1
    for i0 in range(start, stop, 4):
        i1, i2, i3 = min(i0 + 1, last_row), min(i0 + 2, last_row), min(i0 + 3, last_row)
        for k0 in range(0, len(chosen), 4):
            k1, k2, k3 = min(k0 + 1, last), min(k0 + 2, last), min(k0 + 3, last)
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = zero
            s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = zero
            for d in range(features.shape[1]):
                x0, x1, x2, x3 = features[i0, d], features[i1, d], features[i2, d], features[i3, d]
                c0, c1, c2, c3 = chosen[k0, d], chosen[k1, d], chosen[k2, d], chosen[k3, d]
                s00, s01, s02, s03 = s00 + x0 * c0, s01 + x0 * c1, s02 + x0 * c2, s03 + x0 * c3
                s10, s11, s12, s13 = s10 + x1 * c0, s11 + x1 * c1, s12 + x1 * c2, s13 + x1 * c3
                s20, s21, s22, s23 = s20 + x2 * c0, s21 + x2 * c1, s22 + x2 * c2, s23 + x2 * c3
                s30, s31, s32, s33 = s30 + x3 * c0, s31 + x3 * c1, s32 + x3 * c2, s33 + x3 * c3
            out[k0, i0], out[k1, i0], out[k2, i0], out[k3, i0] = s00, s01, s02, s03
            out[k0, i1], out[k1, i1], out[k2, i1], out[k3, i1] = s10, s11, s12, s13
            out[k0, i2], out[k1, i2], out[k2, i2], out[k3, i2] = s20, s21, s22, s23
            out[k0, i3], out[k1, i3], out[k2, i3], out[k3, i3] = s30, s31, s32, s33


@kernel
def two_smallest(
    scores: np.ndarray,
    first: np.ndarray,
    smallest: np.ndarray,
    second: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The smallest entry of the rows start..stop-1, where it stands first, and the one after it.

    Args:
        scores: (R, M).
        first: (R,) int64, written.
        smallest: (R,), written.
        second: (R,), written; the same as `smallest` where it stands twice, inf where M is 1.
        start: first row.
        stop: the row after the last.
    """
    for row in range(start, stop):
        position, low, next_low = 0, scores[row, 0], np.float32(np.inf)
        for column in range(1, scores.shape[1]):
            value = scores[row, column]
            if value < next_low:
                if value < low:
                    position, low, next_low = column, value, low
                else:
                    next_low = value
        first[row], smallest[row], second[row] = position, low, next_low
