"""A detector before a model: the threshold, and what is said to what is turned away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from model_store_tools.audit.hostile.contract import Ask, Picture, Refusal, Scores
from model_store_tools.audit.hostile.mixing import wrongly

__all__ = ["Detector", "Reply", "filtered", "threshold"]

Detector = Callable[[Picture], float]
"""One picture to a number, higher for stranger."""

Reply = Literal["refuse", "random", "other"]
"""403, a random class, or the answer of another model."""

FORBIDDEN = 403


def threshold(detector: Detector, benign: Iterable[Picture], *, false_positives: float = 0.01) -> float:
    """Give the number that this share of benign pictures lies above.

    Args:
        detector: What measures them.
        benign: Pictures the detector was not fitted on.
        false_positives: Share of benign pictures to lose, in (0, 1).

    Raises:
        ValueError: No picture.
    """
    measured = np.array([detector(picture) for picture in benign])
    if not len(measured):
        raise ValueError("there is no benign picture to set a threshold by")
    return float(np.quantile(measured, 1.0 - false_positives, method="higher"))


def filtered(
    ask: Ask, detector: Detector, *, above: float, reply: Reply = "refuse", other: Ask | None = None, seed: int = 0
) -> Ask:
    """Turn away what the detector finds stranger than `above`.

    Args:
        ask: Answers the rest.
        detector: Measures every picture.
        above: Its threshold.
        reply: What is said to what is turned away.
        other: The model that answers instead, where `reply` is "other".
        seed: Of the random classes.

    Raises:
        ValueError: `reply` is "other" and there is no other model.
    """
    if reply == "other" and other is None:
        raise ValueError("reply 'other' needs another model")
    instead = {"refuse": _refuse, "random": wrongly(ask, rate=1.0, seed=seed), "other": other or _refuse}[reply]

    def answer(picture: Picture) -> Scores:
        return instead(picture) if detector(picture) > above else ask(picture)

    return answer


def _refuse(picture: Picture) -> Scores:
    raise Refusal(FORBIDDEN, "this picture is not supported")
