"""The cosine table of the carriers, in integers.

Cosines from a mathematics library differ in the last digit between machines. These come from square roots of
integers (half-angle formula) and the Chebyshev recurrence, both exact to far more digits than the table keeps.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["MASTER", "TABLE_SCALE", "cosine_table"]

MASTER = 64
"""Height and width in pixels of the master pictures all sizes are made from; a power of two."""

TABLE_SCALE = 1 << 14
"""What 1.0 is in the table."""

_ONE = 1 << 128


@functools.cache
def cosine_table(frequencies: int) -> NDArray[np.int64]:
    """Sample the orthonormal DCT-II basis on `MASTER` points.

    Args:
        frequencies: Number of rows, 1 to MASTER.

    Returns:
        Shape (frequencies, MASTER), read-only. Row k, column x is
        round(TABLE_SCALE * s_k * cos(pi * k * (2x + 1) / (2 * MASTER))) with s_0 = 1 and s_k = sqrt(2): the mean
        square of a row is TABLE_SCALE ** 2.
    """
    cosines = _cosines(4 * MASTER)
    root_two = math.isqrt(2 * _ONE * _ONE)
    table = np.empty((frequencies, MASTER), np.int64)
    for k in range(frequencies):
        scale = root_two if k else _ONE
        for x in range(MASTER):
            cosine = cosines[k * (2 * x + 1) % (4 * MASTER)]
            table[k, x] = _rounded(TABLE_SCALE * scale * cosine, _ONE * _ONE)
    table.flags.writeable = False
    return table


def _cosines(steps: int) -> list[int]:
    """cos(2 pi m / steps) for m in 0..steps-1, in units of 1/_ONE; steps a power of two, at least 8."""
    first = 0  # cos of a quarter turn
    turn = 4
    while turn < steps:
        first = math.isqrt((_ONE + first) * _ONE // 2)  # cos(t/2) = sqrt((1 + cos t) / 2)
        turn *= 2
    values = [_ONE, first]
    while len(values) < steps:
        values.append(2 * first * values[-1] // _ONE - values[-2])
    return values


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
