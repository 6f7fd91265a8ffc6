"""From evidence to a verdict: early stop both ways, and what is said when the budget is used up.

    shown         the evidence reached 1/alpha while this run asked, and the fresh answers alone support it at 1 %
    not-shown     every hit rate that could still be shown is excluded, and what is excluded is worth saying
    inconclusive  the budget is used up, or cannot show anything any more, without either of the two

Nothing here asks an endpoint; a caller feeds answers in and stops asking when `verdict` is no longer None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from scipy.special import betaincinv

from ptynet_plugin.statistics.binomial import log10_binomial_p_value
from ptynet_plugin.statistics.eprocess import EProcess
from ptynet_plugin.statistics.exclusion import ExclusionProcess

__all__ = [
    "ALLOWANCE_STAMPED",
    "ALLOWANCE_STAMPED_WITH_BEACON",
    "ALLOWANCE_UNSTAMPED",
    "MOST_OF_A_CLAIM",
    "FixedLengthTest",
    "SequentialTest",
    "Verdict",
    "adjust_log10_p",
    "alpha_of_test",
    "showable_rate",
]

Verdict = Literal["shown", "not-shown", "inconclusive"]

ALLOWANCE_STAMPED_WITH_BEACON = 20
ALLOWANCE_STAMPED = 40
ALLOWANCE_UNSTAMPED = 64

MOST_OF_A_CLAIM = 1e-3
"""A claim is never shown at a level above this one, whatever alpha its run was given: p = 0.4 shows nobody anything."""

_FRESH_SUPPORT = 2.0
"""log10 E that the fresh answers alone must reach: what once stood behind an address may have gone."""

_ROUNDING = 1e-12
"""1/C is a rounded double: nine hits at C = 10 are p = 1e-9, not a hair above it."""

_POINTS_TO_THE_MARK = -3.0
"""log10 p below which a run that fell short of alpha is inconclusive rather than not-shown."""


def alpha_of_test(alpha: float, number: int) -> float:
    """Give the i-th registered test of a claim its part of alpha, 6 alpha / (pi^2 i^2); all parts together are alpha.

    Args:
        alpha: What the claim may spend over all its tests, in (0, 1).
        number: i, from 1.
    """
    if number < 1:
        raise ValueError(f"tests are numbered from 1, not {number}")
    return 6.0 * alpha / (math.pi * number) ** 2


def adjust_log10_p(log10_p: float, allowance: int) -> float:
    """Give log10 of min(1, 2^g p): what is left of p if its owner tried 2^g keys before he stamped one.

    Args:
        log10_p: Decimal logarithm of the raw p-value.
        allowance: g, one of the `ALLOWANCE_` constants or any number of bits.
    """
    return min(0.0, log10_p + allowance * math.log10(2.0))


class SequentialTest:
    """The anytime-valid test that `verify` runs.

    Args:
        null_rate: Probability of a hit by chance, 1/C.
        alpha: Level in (0, 1); the caller has already divided it among the claim's tests (`alpha_of_test`).
        budget: Most answers this run may take in, from 1.
        earlier: Hits and misses of earlier runs of the same claim on the same endpoint. Evidence is never reset, so
            they stay in the e-process; they do not decide alone, since the model behind an address may change: the
            fresh answers must support what is shown, and what is excluded speaks of fresh answers only.
        confidence: Of the exclusion that stops early, and of `excluded_rate`.
    """

    def __init__(
        self,
        null_rate: float,
        *,
        alpha: float = 1e-9,
        budget: int = 200,
        earlier: Iterable[bool] = (),
        confidence: float = 0.99,
    ) -> None:
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha {alpha} lies outside (0, 1)")
        if budget < 1:
            raise ValueError(f"a budget of {budget} asks nothing")
        self.alpha, self.budget, self.confidence = alpha, budget, confidence
        self.evidence = EProcess(null_rate)
        for hit in earlier:
            self.evidence.update(hit)
        self._fresh = EProcess(null_rate)
        self._exclusion = ExclusionProcess(confidence=confidence)
        self._shown = False

    @property
    def null_rate(self) -> float:
        """Probability of a hit by chance."""
        return self.evidence.null_rate

    @property
    def remaining(self) -> int:
        """Answers left of the budget."""
        return self.budget - self.asked

    def observe(self, hit: bool, *, null_rate: float | None = None) -> SequentialTest:
        """Take one answer in; errors, ties, time-outs and lost answers are misses.

        Args:
            hit: Whether the answer was the symbol's label.
            null_rate: This trial's own null where a class map sets one.
        """
        rate = self.null_rate if null_rate is None else null_rate
        self.evidence.update(hit, rate)
        self._fresh.update(hit, rate)
        self._exclusion.update(hit, rate)
        needed = -math.log10(self.alpha)
        supported = self._fresh.log10_e >= min(_FRESH_SUPPORT, needed)
        self._shown = self._shown or (supported and self.evidence.log10_e >= needed)
        return self

    @property
    def asked(self) -> int:
        """Answers this run took in."""
        return self._fresh.trials

    @property
    def hits(self) -> int:
        """Hits among them."""
        return self._fresh.hits

    @property
    def verdict(self) -> Verdict | None:
        """What can be said now; None asks for more answers."""
        if self._shown:
            return "shown"
        if self.asked == 0 or (self.remaining > 0 and not self._futile()):
            return None
        return "not-shown" if self._worth_saying() else "inconclusive"

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value of all evidence, earlier runs included."""
        return self.evidence.p_value

    @property
    def log10_p(self) -> float:
        """Decimal logarithm of `p_value`."""
        return self.evidence.log10_p

    def log10_p_adjusted(self, allowance: int) -> float:
        """Decimal logarithm of the p-value adjusted for 2^allowance tried keys."""
        return adjust_log10_p(self.log10_p, allowance)

    def log10_p_of_fresh(self, allowance: int) -> float:
        """The same of this run's answers alone, without those of earlier runs: what a third party can be shown."""
        return adjust_log10_p(self._fresh.log10_p, allowance)

    @property
    def excluded_rate(self) -> float | None:
        """Smallest hit rate that this run excludes, with all above it, at `confidence`; None where none is."""
        return self._exclusion.excluded_rate(self.null_rate)

    def _futile(self) -> bool:
        """Whether asking on is idle: every rate that the rest of the budget could still show is excluded."""
        showable = showable_rate(self.evidence, self.alpha, self.remaining, chance=1.0 - self.confidence)
        excluded = self.excluded_rate
        return showable is None or (excluded is not None and excluded <= showable)

    def _worth_saying(self) -> bool:
        """Whether a whole run would have shown what is now excluded, and nothing points to the mark."""
        showable = showable_rate(EProcess(self.null_rate), self.alpha, self.budget, chance=self.confidence)
        excluded = self.excluded_rate
        nothing_points = self.log10_p > _POINTS_TO_THE_MARK
        return nothing_points and excluded is not None and showable is not None and excluded <= showable


def showable_rate(evidence: EProcess, alpha: float, answers: int, *, chance: float) -> float | None:
    """Give the hit rate that `answers` further answers would show at level alpha with that chance.

    Args:
        evidence: What has been seen so far.
        alpha: Level in (0, 1).
        answers: Number of further answers, from 0.
        chance: Probability in (0, 1) with which the rate reaches 1/alpha at the end of these answers.

    Returns:
        The rate in (0, 1], or None where not even hits alone would do.
    """
    hits = np.arange(answers + 1)
    enough = np.flatnonzero(evidence.after(hits, answers - hits) >= -math.log10(alpha))
    if len(enough) == 0:
        return None
    needed = int(enough[0])
    return 0.0 if needed == 0 else float(betaincinv(needed, answers - needed + 1, chance))


class FixedLengthTest:
    """The exact binomial test, for a length that was registered before the first query and is completed.

    Args:
        null_rate: Probability of a hit by chance, in (0, 1).
        alpha: Level in (0, 1).
        length: Number of answers, registered before.
    """

    def __init__(self, null_rate: float, *, alpha: float, length: int) -> None:
        if length < 1:
            raise ValueError(f"a test of length {length} asks nothing")
        self.null_rate, self.alpha, self.length = null_rate, alpha, length
        self.asked, self.hits = 0, 0

    def observe(self, hit: bool) -> FixedLengthTest:
        """Take one answer in; there is no early stop."""
        if self.asked == self.length:
            raise ValueError(
                f"the registered length of {self.length} is completed, a further answer would change the test"
            )
        self.asked += 1
        self.hits += bool(hit)
        return self

    @property
    def log10_p(self) -> float | None:
        """Decimal logarithm of the binomial p-value, None until the registered length is completed."""
        complete = self.asked == self.length
        return log10_binomial_p_value(self.hits, self.length, self.null_rate) if complete else None

    @property
    def verdict(self) -> Verdict | None:
        """None until the registered length is completed."""
        if self.log10_p is None:
            return None
        return "shown" if self.log10_p <= math.log10(self.alpha) + _ROUNDING else "not-shown"
