"""What coalitions may do with the positions in which their copies differ, as probabilities.

Where all copies of a coalition agree they can only answer alike (unless the probe fails); where they differ they choose. The
decoder mixes over the seven strategies below; its bound holds for every other strategy too, these only give it power.
"""

from __future__ import annotations

from enum import Enum
from math import comb

import numpy as np
from numpy.typing import NDArray

__all__ = ["ERASED", "ERASURE_FLOOR", "Strategy", "answer_given_bit", "answer_rates", "combined"]

ERASED = 2
"""The answer that is neither label of the pair; answers are 0, 1 or this."""

ERASURE_FLOOR = 0.005


class Strategy(Enum):
    """How a coalition answers where its copies differ."""

    INTERLEAVE = "interleave"
    MAJORITY = "majority"
    MINORITY = "minority"
    COIN = "coin"
    ALL_ONE = "all-one"
    ALL_ZERO = "all-zero"
    ERASE = "erase"


def answer_rates(strategy: Strategy, ones: int, coalition: int) -> tuple[float, float, float]:
    """Give the probabilities of answering 0, 1 and nothing, for a coalition of which `ones` copies hold a 1."""
    if ones in (0, coalition):
        return (1.0, 0.0, 0.0) if ones == 0 else (0.0, 1.0, 0.0)
    if strategy is Strategy.ERASE:
        return (0.0, 0.0, 1.0)
    balance = (2 * ones > coalition) - (2 * ones < coalition)
    one = {
        Strategy.INTERLEAVE: ones / coalition,
        Strategy.MAJORITY: 0.5 + balance / 2,
        Strategy.MINORITY: 0.5 - balance / 2,
        Strategy.COIN: 0.5,
        Strategy.ALL_ONE: 1.0,
        Strategy.ALL_ZERO: 0.0,
    }[strategy]
    return (1.0 - one, one, 0.0)


def answer_given_bit(strategy: Strategy, *, coalition: int, bias: float, error_rate: float) -> NDArray[np.float64]:
    """Give P(answer | bit of one member), averaged over the other members' bits.

    Args:
        strategy: What the coalition does.
        coalition: Its size c, from 1.
        bias: The position's bias in (0, 1).
        error_rate: Probability in (0, 1/2) that a bit is read wrongly.

    Returns:
        Shape (2, 3): bit of the member by answer; rows sum to 1 and no entry is 0.
    """
    table = np.zeros((2, 3))
    for others in range(coalition):
        share = comb(coalition - 1, others) * bias**others * (1.0 - bias) ** (coalition - 1 - others)
        for bit in (0, 1):
            table[bit] += share * _noisy(answer_rates(strategy, others + bit, coalition), error_rate)
    return table


def combined(
    words: NDArray[np.uint8], strategy: Strategy, *, error_rate: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Draw what a coalition answers to every position, and what is read of it.

    Args:
        words: The colluders' bits, shape (colluders, positions).
        strategy: What they do where they differ.
        error_rate: Probability in [0, 1/2) that a bit is read wrongly.
        rng: Drawn from.

    Returns:
        Shape (positions,): 0, 1 or `ERASED`.
    """
    size, ones = len(words), words.sum(axis=0, dtype=np.int64)
    rates = np.array([answer_rates(strategy, count, size) for count in range(size + 1)])[ones]
    answers = (rng.random((len(ones), 1)) > rates.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    wrong = (rng.random(len(ones)) < error_rate) & (answers < 2)
    return np.asarray(np.where(wrong, 1 - answers, answers), dtype=np.int8)


def _noisy(rates: tuple[float, float, float], error_rate: float) -> NDArray[np.float64]:
    """Let bits flip with `error_rate` and answers vanish with a small floor, so that nothing is impossible."""
    zero, one, erased = rates
    read = 1.0 - ERASURE_FLOOR
    return np.array(
        [
            read * (zero * (1.0 - error_rate) + one * error_rate),
            read * (one * (1.0 - error_rate) + zero * error_rate),
            read * erased + ERASURE_FLOOR,
        ]
    )
