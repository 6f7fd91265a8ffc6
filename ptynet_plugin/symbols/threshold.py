"""When a symbol counts as recognised: the threshold tau and what it promises.

Whatever bits a network reads from an input that was made without the key, a code word agrees with them like n fair
coins, because every code word is uniform. So the chance that any of J words agrees in n(1 + tau)/2 places or more is at
most J * P(Bin(n, 1/2) >= n(1 + tau)/2). Everything here is exact integer arithmetic.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError

__all__ = ["FALSE_FIRE_BOUND", "MARGIN", "choose_tau", "decisive_tau", "false_fire_bound"]

FALSE_FIRE_BOUND = 1e-8
"""Largest chance of a fire on an input that was made without the key."""

MARGIN = 0.2
"""Lead over the second best score that a fire needs."""

SLACK = 0.02
"""For engines that read soft bits in steps of 1/127."""

MOST_RAISED = 0.05
"""A threshold is not raised by more than this to make the lead certain."""


def false_fire_bound(tau: float, *, bits: int, symbols: int) -> float:
    """Bound the chance that an input made without the key fires.

    Args:
        tau: Threshold on the score, in (0, 1).
        bits: Length n of a code word.
        symbols: Number J of code words.

    Returns:
        J * P(Bin(n, 1/2) >= n(1 + tau)/2), at most 1.
    """
    return float(
        min(
            Fraction(1),
            symbols * _tail(math.ceil(Fraction(tau).limit_denominator(10**6) * bits / 2 + Fraction(bits, 2)), bits),
        )
    )


def choose_tau(*, bits: int, symbols: int, bound: float = FALSE_FIRE_BOUND) -> float:
    """Give the lowest threshold that keeps `false_fire_bound` within `bound`.

    Returns:
        A threshold between two attainable scores of hard bits, in thousandths, so that rounding decides nothing.

    Raises:
        UsageError: Even full agreement is too likely: the words are too short for that many symbols.
    """
    for agreeing in range(bits // 2, bits + 1):
        if symbols * _tail(agreeing, bits) <= Fraction(bound):
            # halfway between the scores (2k - n)/n of k = agreeing - 1 and k = agreeing
            return math.ceil(1000 * Fraction(2 * agreeing - 1 - bits, bits)) / 1000
    raise UsageError(f"{bits} bits cannot tell {symbols} symbols at a false-fire bound of {bound:g}; use more bits")


def decisive_tau(words: NDArray[np.int8]) -> float:
    """Give the threshold for a code book: `choose_tau`, or a little more where that makes the lead certain.

    Soft bits lie in -1..1, so that a best score s leaves at most 1 + r - s to any other word, r being the highest correlation of
    two words: above (1 + r + margin)/2 the lead needs no look at the second best.

    Args:
        words: Shape (symbols, bits), entries +1 and -1.
    """
    symbols, bits = words.shape
    lowest = choose_tau(bits=bits, symbols=symbols)
    products = words.astype(np.int32) @ words.T.astype(np.int32)
    np.fill_diagonal(products, -bits)
    certain = math.ceil(500 * (1 + int(products.max()) / bits + MARGIN + SLACK)) / 1000
    return max(lowest, certain) if certain <= lowest + MOST_RAISED else lowest


def _tail(agreeing: int, bits: int) -> Fraction:
    """P(Bin(bits, 1/2) >= agreeing)."""
    return Fraction(sum(math.comb(bits, k) for k in range(agreeing, bits + 1)), 2**bits)
