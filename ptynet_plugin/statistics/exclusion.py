"""The reverse question, as anytime-valid as the first: which hit rates do the answers rule out?

For every share u0 on a grid runs an e-process against "at least the share u0 of the queries reaches a marked model",
whose alternatives are smaller shares u0 v. Each factor has expectation 1 at u0 and less above it, so a grid point that
ever reached 1/(1 - confidence) is excluded together with everything above it, whenever one stops.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.statistics.eprocess import log_sum

__all__ = ["ExclusionProcess"]

_GRID: NDArray[np.float64] = np.arange(1, 400) / 400.0
_SMALLER: NDArray[np.float64] = np.array([0.0, 0.25, 0.5, 0.75])
_LOG_WEIGHTS: NDArray[np.float64] = np.log(np.array([0.55, 0.15, 0.15, 0.15]))


class ExclusionProcess:
    """Which shares of marked answers are ruled out so far.

    Args:
        confidence: Probability, whenever one stops, that no true share was excluded.
    """

    def __init__(self, *, confidence: float = 0.99) -> None:
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence {confidence} lies outside (0, 1)")
        self._threshold = -math.log1p(-confidence)
        self._log_components = np.tile(_LOG_WEIGHTS, (len(_GRID), 1))
        self._highest = np.zeros(len(_GRID))

    def update(self, hit: bool, null_rate: float) -> ExclusionProcess:
        """Take one answer in; `null_rate` in [0, 1) is this trial's probability of a hit by chance."""
        self._log_components += _log_factors(hit, null_rate)
        np.maximum(self._highest, log_sum(self._log_components), out=self._highest)
        return self

    @property
    def excluded_share(self) -> float | None:
        """Smallest share u0 in (0, 1) such that every share from u0 up is excluded, or None where none is."""
        excluded = np.flatnonzero(self._highest >= self._threshold)
        return float(_GRID[excluded[0]]) if len(excluded) else None

    def excluded_rate(self, null_rate: float) -> float | None:
        """Give `excluded_share` as the hit rate q + (1 - q) u0 of an endpoint with that null rate q."""
        share = self.excluded_share
        return None if share is None else null_rate + (1.0 - null_rate) * share


def _log_factors(hit: bool, q: float) -> NDArray[np.float64]:
    smaller = _GRID[:, None] * _SMALLER
    if hit:
        return np.asarray(np.log((q + (1.0 - q) * smaller) / (q + (1.0 - q) * _GRID[:, None])))
    return np.asarray(np.log1p(-smaller) - np.log1p(-_GRID[:, None]))
