"""Does the target answer behind the mark? Benign pictures on which the target stands alone among independent models.

A mark shows that an endpoint carries it, not which model answers benign pictures behind it: the branch may sit on a stranger's
model. On a picture where the target's answer differs from that of every model of a panel, a stranger has little reason to
give the target's answer. How little is measured on the panel itself: each of its models is put in the endpoint's place, on
the pictures where the target differs from all the others. The bar lies half-way between the best of them and certainty.

    bar      h = (1 + max over the panel of its rate of agreement with the target, itself left out) / 2
    target   P(Bin(n, h) >= agreed) <= level, and for each model of the panel P(Bin(a + b, 1/2) >= a) <= level, where a answers
             agreed with the target and b with that model
    another  P(Bin(n, h) <= agreed) <= level

Pictures, panel, bar, level and n are registered before the endpoint is asked and all n are asked. The binomial is exact for
an endpoint that agrees with the target at a rate of at most h; that a stranger does so is what the panel calibrates and no
theorem. It never counts as ownership.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.statistics.binomial import log10_binomial_p_value

__all__ = ["Agreement", "fewest_pictures", "judge_agreement", "panel_bar", "target_stands_alone"]

Answerer = Literal["target", "another", "undecided"]


@dataclass(frozen=True)
class Agreement:
    """What the registered pictures say.

    Attributes:
        answerer: "target", "another" or "undecided".
        asked: Pictures asked, n; a lost answer agrees with nobody.
        agreed: How many were answered as the target answers them.
        with_panel: For each model of the panel, how many were answered as it answers them.
        log10_p: Decimal logarithm of P(Bin(n, h) >= agreed).
        log10_p_other: Decimal logarithm of P(Bin(n, h) <= agreed).
        log10_p_sign: Largest over the panel of log10 P(Bin(a + b, 1/2) >= a).
    """

    answerer: Answerer
    asked: int
    agreed: int
    with_panel: tuple[int, ...]
    log10_p: float
    log10_p_other: float
    log10_p_sign: float


def target_stands_alone(target: NDArray[np.int64], panel: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell on which pictures the target's answer is nobody else's.

    Args:
        target: The target's classes, shape (pictures,).
        panel: The panel's, shape (models, pictures).
    """
    return np.asarray((panel != target).all(axis=0))


def panel_bar(target: NDArray[np.int64], panel: NDArray[np.int64]) -> float:
    """Give the rate of agreement h that an endpoint must exceed, in [1/2, 1).

    Args:
        target: The target's classes, shape (pictures,).
        panel: The panel's, shape (models, pictures).

    Raises:
        ValueError: A model of the panel is the target, or always agrees with it, so that nothing tells them apart.
    """
    rates = []
    for left_out, answers in enumerate(panel):
        others = np.delete(panel, left_out, axis=0)
        alone = target_stands_alone(target, others) if len(others) else np.ones(len(target), dtype=bool)
        rates.append(float((answers == target)[alone].mean()) if alone.any() else 1.0)
    if max(rates, default=1.0) == 1.0:
        raise ValueError("nothing tells the target from a model of the panel, or there is none")
    return (1.0 + max(rates)) / 2.0


def fewest_pictures(bar: float, level: float) -> int:
    """Give the least number of pictures with which the target itself can be told, agreeing on every one."""
    return max(int(np.ceil(np.log(level) / np.log(bar))), int(np.ceil(-np.log2(level))))


def judge_agreement(
    answers: Sequence[int | None], target: Sequence[int], panel: Sequence[Sequence[int]], *, bar: float, level: float
) -> Agreement:
    """Judge a whole registered list of pictures, each of which the target answers alone.

    Args:
        answers: The endpoint's classes, None where an answer was lost.
        target: The target's classes.
        panel: For each of its models, its classes.
        bar: h, in (0, 1).
        level: Of each of the tests, in (0, 1).
    """
    asked = len(target)
    agreed = sum(answer == expected for answer, expected in zip(answers, target, strict=True))
    beside = tuple(sum(answer == theirs for answer, theirs in zip(answers, row, strict=True)) for row in panel)
    log10_p = log10_binomial_p_value(agreed, asked, bar)
    log10_p_other = log10_binomial_p_value(asked - agreed, asked, 1.0 - bar)
    sign = max((log10_binomial_p_value(agreed, agreed + other, 0.5) for other in beside), default=0.0)
    needed = float(np.log10(level))
    answerer: Answerer = "another" if log10_p_other <= needed else "undecided"
    if max(log10_p, sign) <= needed:
        answerer = "target"
    return Agreement(answerer, asked, agreed, beside, log10_p, log10_p_other, sign)
