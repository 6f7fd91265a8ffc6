"""Exact binomial tail and confidence limits, for lengths that were registered before the first query.

A binomial p-value that is looked at after every answer is no p-value: at 100 looks a nominal 0.1 % becomes 0.58 %.
For evidence that is watched while it grows use `eprocess`.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betaincinv, gammaln

__all__ = ["binomial_p_value", "log10_binomial_p_value", "lower_limit", "upper_limit"]


def log10_binomial_p_value(hits: int, trials: int, null_rate: float) -> float:
    """Give log10 P(Bin(trials, null_rate) >= hits), exact far below the smallest double.

    Args:
        hits: Observed hits, 0 to `trials`.
        trials: Length of the test as registered before it began.
        null_rate: In (0, 1).
    """
    _check_counts(hits, trials)
    if hits == 0:
        return 0.0
    k = np.arange(hits, trials + 1, dtype=np.float64)
    choose = gammaln(trials + 1.0) - gammaln(k + 1.0) - gammaln(trials - k + 1.0)
    terms = choose + k * math.log(null_rate) + (trials - k) * math.log1p(-null_rate)
    top = terms.max()
    return min(0.0, float((math.log(np.exp(terms - top).sum()) + top) / math.log(10.0)))


def binomial_p_value(hits: int, trials: int, null_rate: float) -> float:
    """Give P(Bin(trials, null_rate) >= hits); 0.0 where it is below the smallest double."""
    return float(10.0 ** log10_binomial_p_value(hits, trials, null_rate))


def upper_limit(hits: int, trials: int, *, confidence: float) -> float:
    """Give the one-sided Clopper-Pearson upper limit of a rate, in (0, 1]."""
    _check_counts(hits, trials)
    return 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, confidence))


def lower_limit(hits: int, trials: int, *, confidence: float) -> float:
    """Give the one-sided Clopper-Pearson lower limit of a rate, in [0, 1)."""
    _check_counts(hits, trials)
    return 0.0 if hits == 0 else float(betaincinv(hits, trials - hits + 1, 1.0 - confidence))


def _check_counts(hits: int, trials: int) -> None:
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials cannot be")
