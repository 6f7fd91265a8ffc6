"""Evidence that may be looked at after every answer: a mixture e-process for "it hits more often than chance".

The label of a symbol is uniform over the C classes and was drawn after the probes were fixed, so a model that was not
built from the key hits with probability exactly q = 1/C, whatever it answers. Against that null stands a fixed mixture
of alternatives: a share u of the queries reaches a marked model that always hits, the rest hits by chance, hence
h = q + (1 - q) u. Each answer multiplies component i by

    h_i / q = 1 + u_i (1/q - 1)    on a hit,        (1 - h_i) / (1 - q) = 1 - u_i    on a miss,

whose expectation under the null is exactly 1. The mixture is therefore a non-negative martingale that starts at 1, and
by Ville's inequality it ever reaches 1/alpha with probability at most alpha: peeking costs nothing (Ramdas et al.,
"Game-theoretic statistics and safe anytime-valid inference", arXiv 2210.01948). The null rate may change from one
answer to the next as long as it is known without the label (class maps).

Half the weight sits on u = 1, so that an endpoint that always hits is shown within one query of what the exact binomial
test would need.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SHARES", "WEIGHTS", "EProcess", "log10_e_path", "log_sum"]

SHARES: NDArray[np.float64] = np.array([1.0, 0.97, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02])
WEIGHTS: NDArray[np.float64] = np.array([0.5] + [0.5 / 12] * 12)
SHARES.flags.writeable = False
WEIGHTS.flags.writeable = False

_LN10 = math.log(10.0)


class EProcess:
    """The mixture e-process over a stream of hits and misses.

    Args:
        null_rate: Probability of a hit under the null, in (0, 1); 1/C for a plain endpoint.
    """

    def __init__(self, null_rate: float) -> None:
        if not 0.0 < null_rate < 1.0:
            raise ValueError(f"null rate {null_rate} lies outside (0, 1)")
        self.null_rate = null_rate
        self._log_components = np.log(WEIGHTS)
        self._max_log_e = 0.0
        self.trials = 0
        self.hits = 0

    def update(self, hit: bool, null_rate: float | None = None) -> EProcess:
        """Take one answer in.

        Args:
            hit: Whether the answer was the symbol's label. Ties, errors and lost answers are misses.
            null_rate: This trial's own null in [0, 1], where a class map sets one; it must not depend on the label.

        Returns:
            The process itself.
        """
        rate = self.null_rate if null_rate is None else null_rate
        self._log_components += _log_factors(hit, rate)
        self._max_log_e = max(self._max_log_e, self._log_e())
        self.trials += 1
        self.hits += bool(hit)
        return self

    @property
    def log10_e(self) -> float:
        """Decimal logarithm of the e-value now; expectation of the e-value under the null is 1 at any stopping time."""
        return self._log_e() / _LN10

    @property
    def max_log10_e(self) -> float:
        """Decimal logarithm of the highest e-value so far, at least 0 (the start)."""
        return self._max_log_e / _LN10

    @property
    def log10_p(self) -> float:
        """Decimal logarithm of `p_value`; exact where the p-value itself would underflow."""
        return 0.0 - self.max_log10_e

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value min(1, 1 / max E): P(p <= alpha) <= alpha at any stopping time."""
        return float(10.0**self.log10_p)

    def after(self, hits: ArrayLike, misses: ArrayLike) -> NDArray[np.float64]:
        """Tell log10 E for the case that further answers came; the process itself stays as it is.

        Args:
            hits: Further hits, any shape.
            misses: Further misses, the same shape.
        """
        further = _log_products(hits, misses, self.null_rate)
        return log_sum(self._log_components + further) / _LN10

    def _log_e(self) -> float:
        return float(log_sum(self._log_components))


def _log_factors(hit: bool, null_rate: float) -> NDArray[np.float64]:
    """Give the natural logarithm of every component's factor for one answer, shape (components,).

    Raises:
        ValueError: A rate outside [0, 1], or a hit where the null says it cannot happen.
    """
    if not 0.0 <= null_rate <= 1.0:
        raise ValueError(f"null rate {null_rate} lies outside [0, 1]")
    if not hit:
        return _LOG_MISS
    if null_rate == 0.0:
        raise ValueError("a hit was counted where the null rate is 0: the class map and the answer disagree")
    return np.log1p(SHARES * (1.0 / null_rate - 1.0))


def _log_products(hits: ArrayLike, misses: ArrayLike, null_rate: float) -> NDArray[np.float64]:
    """Give the logarithm of every component's product over counts, shape (*counts, components).

    Args:
        hits: Number of hits, any shape.
        misses: Number of misses, a shape that broadcasts with it.
        null_rate: Their common null rate in (0, 1).
    """
    k, m = (np.asarray(counts, dtype=np.float64)[..., None] for counts in (hits, misses))
    with np.errstate(invalid="ignore"):
        lost = np.where(m > 0, m * _LOG_MISS, 0.0)
    return np.asarray(k * np.log1p(SHARES * (1.0 / null_rate - 1.0)) + lost)


def log10_e_path(hits: ArrayLike, null_rate: float) -> NDArray[np.float64]:
    """Compute log10 E after every answer, for many streams at once.

    Args:
        hits: Hits and misses, bool, shape (..., trials).
        null_rate: Probability of a hit under the null, in (0, 1).

    Returns:
        Shape (..., trials); `EProcess` gives the same numbers one by one.
    """
    stream = np.asarray(hits, dtype=bool)
    hit_count = np.cumsum(stream, axis=-1)
    miss_count = np.cumsum(~stream, axis=-1)
    return log_sum(np.log(WEIGHTS) + _log_products(hit_count, miss_count, null_rate)) / _LN10


def log_sum(log_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give log(sum(exp(values))) over the last axis; single values may be -inf, never all of them."""
    top = log_values.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(log_values - top).sum(axis=-1)) + top[..., 0])


with np.errstate(divide="ignore"):
    _LOG_MISS: NDArray[np.float64] = np.log1p(-SHARES)
_LOG_MISS.flags.writeable = False
