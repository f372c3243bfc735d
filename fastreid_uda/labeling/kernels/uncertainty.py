"""Kernels that pass over the scores of all classes and keep a few numbers of each row, in float64.

Products are (R, K) float32, contiguous, K >= 1; scores are `scale` times them. Kernels do the rows
start..stop-1.
"""

from __future__ import annotations

import math

import numpy as np

from ...compiled import kernel, kernel_with_free_sums


@kernel_with_free_sums
def sums_and_maxima(
    products: np.ndarray, sums: np.ndarray, maxima: np.ndarray, start: int, stop: int
) -> None:
    """The sum and the largest of each row.

    Args:
        products: see above.
        sums: (R,) float64, written.
        maxima: (R,) float32, written.
        start: first row.
        stop: the row after the last.
    """
    for row in range(start, stop):
        total, largest = np.float64(0), products[row, 0]
        for column in range(products.shape[1]):
            value = products[row, column]
            total += np.float64(value)
            largest = max(largest, value)
        sums[row], maxima[row] = total, largest


@kernel
def log_sum_exp(
    products: np.ndarray,
    maxima: np.ndarray,
    scale: float,
    logarithms: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The logarithm of sum_k exp(scale * product_k), for each row.

    Args:
        products: see above.
        maxima: (R,) float32, of each row.
        scale: above 0.
        logarithms: (R,) float64, written.
        start: first row.
        stop: the row after the last.
    """
    for row in range(start, stop):
        largest, total = np.float64(maxima[row]), 0.0
        for column in range(products.shape[1]):
            total += math.exp(scale * (np.float64(products[row, column]) - largest))
        logarithms[row] = scale * largest + math.log(total)


@kernel
def expected_difference(
    products: np.ndarray,
    others: np.ndarray,
    maxima: np.ndarray,
    scale: float,
    differences: np.ndarray,
    logarithms: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """sum_k p_k * (score_k - score'_k) of each row, p the softmax of its scores; `log_sum_exp` too.

    Args:
        products: see above.
        others: products likewise, those with a dash.
        maxima: (R,) float32, of each row of the first products.
        scale: above 0.
        differences: (R,) float64, written.
        logarithms: (R,) float64, written, log sum_k exp(score_k).
        start: first row.
        stop: the row after the last.
    """
    for row in range(start, stop):
        largest, total, weighted = np.float64(maxima[row]), 0.0, 0.0
        for column in range(products.shape[1]):
            product = np.float64(products[row, column])
            power = math.exp(scale * (product - largest))
            total += power
            weighted += power * (product - np.float64(others[row, column]))
        differences[row] = scale * weighted / total
        logarithms[row] = scale * largest + math.log(total)
