"""How well a score tells two groups apart: area under the ROC curve with its interval, and the rate at few false alarms.

An area says how an attack does on average; an attack that is sure of a few pictures and blind for the rest hides in
it. So the rate of members found at 1 % false alarms stands beside it (Carlini et al., "Membership Inference Attacks From First
Principles", IEEE S&P 2022, section III).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

__all__ = ["Interval", "area", "area_interval", "clustered_interval", "found_at"]

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence limits."""

    estimate: float
    low: float
    high: float


def area(members: Scores, others: Scores) -> float:
    """Give P(member's score > other's score), ties counting one half: 0.5 for scores that tell nothing.

    Args:
        members: Scores of the first group, shape (m,), m >= 1.
        others: Scores of the second group, shape (n,), n >= 1.

    Raises:
        ValueError: A group is empty, or a score is no number.
    """
    _check(members, others)
    ranks = rankdata(np.concatenate([members, others]))
    wins = ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2
    return float(wins / (len(members) * len(others)))


def area_interval(members: Scores, others: Scores, *, confidence: float = 0.95) -> Interval:
    """Give the area with the interval of DeLong et al. (Biometrics 44, 1988) for independent scores, cut to 0..1.

    Raises:
        ValueError: A group has fewer than two scores, or a score is no number.
    """
    _check(members, others, least=2)
    own, foreign = rankdata(members), rankdata(others)
    both = rankdata(np.concatenate([members, others]))
    above = (both[: len(members)] - own) / len(others)  # share of the others below each member
    below = 1 - (both[len(members) :] - foreign) / len(members)
    variance = above.var(ddof=1) / len(members) + below.var(ddof=1) / len(others)
    estimate, reach = float(above.mean()), float(norm.ppf((1 + confidence) / 2) * np.sqrt(variance))
    return Interval(estimate, max(0.0, estimate - reach), min(1.0, estimate + reach))


def found_at(members: Scores, others: Scores, *, alarms: float) -> float:
    """Give the share of members above the lowest threshold at which at most `alarms` of the others are.

    Args:
        members: Shape (m,).
        others: Shape (n,); with n * alarms < 1 no false alarm is allowed.
        alarms: Rate of false alarms, 0 to 1.
    """
    _check(members, others)
    allowed = int(np.floor(alarms * len(others) + 1e-9))
    if allowed >= len(others):
        return 1.0
    threshold = np.sort(others)[len(others) - 1 - allowed]
    return float(np.mean(members > threshold))


def clustered_interval(
    statistic: Callable[[Scores, Scores], float],
    scores: Scores,
    member: NDArray[np.bool_],
    *,
    draws: int,
    generator: np.random.Generator,
    confidence: float = 0.95,
) -> Interval:
    """Give a percentile bootstrap interval where a picture's scores under several models go together.

    Args:
        statistic: Of the members' and the others' scores.
        scores: Shape (models, pictures).
        member: Which picture was used for which model, the same shape.
        draws: Number of resamples of the pictures.
        generator: Source of the resamples.
        confidence: Of the interval.
    """
    if scores.shape != member.shape:
        raise ValueError(f"scores have shape {scores.shape}, membership {member.shape}")
    found = np.empty(draws)
    for i in range(draws):
        columns = generator.integers(scores.shape[1], size=scores.shape[1])
        drawn, inside = scores[:, columns], member[:, columns]
        found[i] = statistic(drawn[inside], drawn[~inside])
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(scores[member], scores[~member]), float(low), float(high))


def _check(members: Scores, others: Scores, *, least: int = 1) -> None:
    if min(len(members), len(others)) < least:
        raise ValueError(
            f"{len(members)} and {len(others)} scores cannot be compared, at least {least} each are needed"
        )
    if not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise ValueError("a score is no finite number")
