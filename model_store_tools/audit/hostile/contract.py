"""What a hostile endpoint is: a function from one picture to scores, wrapped in others, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ask", "Hostile", "Picture", "Refusal", "Scores"]

Picture = NDArray[np.uint8]
"""uint8, shape (height, width, channels), channels in RGB order or one grey channel."""

Scores = NDArray[np.float64]
"""Shape (classes,)."""

Ask = Callable[[Picture], Scores]
"""One picture to its scores; raises `Refusal`. Must be safe to call from several threads."""


class Refusal(Exception):  # noqa: N818 -- an answer of the protocol, no defect
    """The endpoint says no.

    Attributes:
        status: HTTP status.
        retry_after: Seconds after which to come back, or None.
    """

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True)
class Hostile:
    """One endpoint to stand up.

    Attributes:
        name: What it does, in a few words.
        group: The kind of hiding: "answers", "mixing", "inputs", "filters", "limits".
        ask: What answers.
        labels_only: Whether only the class in the top place leaves the server.
        source: Paper, or "" where there is none to name.
    """

    name: str
    group: str
    ask: Ask
    labels_only: bool = False
    source: str = ""
