"""Was this picture among the training covers? Two attacks, from what each of several networks says about each picture.

Every network was trained on a random half of the same pictures. Each in turn is the target, the others are the attacker's
shadows: he trained them himself and knows what they saw (Shokri et al., IEEE S&P 2017).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SHADOWS", "likelihood_ratios", "plain_scores"]

Statistics = NDArray[np.float64]
Membership = NDArray[np.bool_]

LEAST_SHADOWS = 2
"""Shadows with, and as many without a picture, that its two means need."""

FLOOR = 1e-12


def plain_scores(statistics: Statistics) -> Statistics:
    """Score by the network's own statistic, freed of how loud the network is.

    Args:
        statistics: Shape (models, pictures); higher means more at home with the picture, such as minus the log of a loss.

    Returns:
        The same shape; each row has mean 0 and deviation 1. The attacker can do this: he holds the network and other pictures.
    """
    centred = statistics - statistics.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(statistics.std(axis=1, keepdims=True), FLOOR))


def likelihood_ratios(statistics: Statistics, member: Membership) -> Statistics:
    """Score by the log likelihood ratio of "was used" against "was not", per picture, each network against all others.

    Both hypotheses are Gaussian, means per picture, variances pooled over pictures, as the source advises for few shadows
    (Carlini et al., IEEE S&P 2022, sections V and VI; "LiRA", online form).

    Args:
        statistics: As for `plain_scores`.
        member: Which picture each network was trained on, the same shape.

    Returns:
        Shape (models, pictures), positive where "was used" is likelier. A network's own membership never enters its own scores.

    Raises:
        ValueError: Shapes differ, or leaving one network out leaves a picture with too few shadows with or without it.
    """
    if statistics.shape != member.shape:
        raise ValueError(f"statistics have shape {statistics.shape}, membership {member.shape}")
    level = plain_scores(statistics)
    scores = np.empty_like(level)
    for target in range(len(level)):
        shadows = np.arange(len(level)) != target
        inside = _fitted(level[shadows], member[shadows])
        outside = _fitted(level[shadows], ~member[shadows])
        scores[target] = _log_density(level[target], *inside) - _log_density(level[target], *outside)
    return scores


def _fitted(level: Statistics, chosen: Membership) -> tuple[Statistics, float]:
    """Mean per picture over the chosen networks, and the variance pooled over pictures."""
    counts = chosen.sum(axis=0)
    if counts.min() < LEAST_SHADOWS:
        raise ValueError(f"a picture has {counts.min()} shadows of one kind, at least {LEAST_SHADOWS} are needed")
    means = np.where(chosen, level, 0).sum(axis=0) / counts
    squares = np.where(chosen, (level - means) ** 2, 0).sum()
    return means, max(FLOOR, float(squares / (counts.sum() - len(counts))))


def _log_density(level: Statistics, mean: Statistics, variance: float) -> Statistics:
    return np.asarray(-((level - mean) ** 2) / (2 * variance) - np.log(variance) / 2)
