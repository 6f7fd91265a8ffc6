"""A few symbols that name a single leaker at once, where the model has many classes.

On these symbols every copy answers a label of its own, drawn uniformly over all C classes from the secret and the copy's
number. An innocent's label matches an answer with probability exactly 1/C, so the evidence is the mixture e-process of
`statistics.eprocess`: at C = 1000 nine matches name one of a million copies at 1e-9. Colluders who mix their answers
weaken it, which is what the collusion-resistant code of `tardos` is for; the two use different symbols of one mark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.codes.tardos import counter_stream
from ptynet_plugin.keys import derive
from ptynet_plugin.statistics.eprocess import EProcess

__all__ = ["LOST", "QuickCode"]

LOST = -1
"""Stands for an answer that is no class: a miss for every copy."""

_WORD = 1 << 64


@dataclass(frozen=True)
class QuickCode:
    """The labels by which a single copy is known.

    Attributes:
        secret: 32 secret bytes.
        symbols: Number of symbols set aside; even, so that a copy's numbers fill whole cipher blocks.
        classes: C, at least 2.
    """

    secret: bytes
    symbols: int
    classes: int

    def __post_init__(self) -> None:
        if self.symbols < 2 or self.symbols % 2:
            raise ValueError(f"the quick code takes an even number of symbols, not {self.symbols}")
        if self.classes < 2:
            raise ValueError(f"labels need at least 2 classes, not {self.classes}")

    def labels(self, first: int, count: int) -> NDArray[np.int64]:
        """Draw the labels of the copies `first` to `first + count - 1`, by rejection and so exactly uniform.

        Returns:
            Shape (count, symbols), integers in [0, classes).
        """
        if first < 1 or count < 0:
            raise ValueError(f"copies are numbered from 1; {count} copies from {first} cannot be")
        drawn = self._words(0, first, count)
        whole = _WORD - _WORD % self.classes
        attempt = 1
        while (refused := drawn > np.uint64(whole - 1)).any():
            drawn = np.where(refused, self._words(attempt, first, count), drawn)
            attempt += 1
        return (drawn % np.uint64(self.classes)).astype(np.int64)

    def log_evidence(
        self, first: int, count: int, answers: NDArray[np.int64], *, symbols: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Weigh answers against copies.

        Args:
            first: Number of the first copy, from 1.
            count: How many copies.
            answers: The top class for every symbol that was asked, or `LOST`; at most `symbols` of them.
            symbols: Which of the quick symbols were asked, each in [0, symbols); the first ones where None.

        Returns:
            Natural logarithm of each copy's e-value, shape (count,).
        """
        asked = np.arange(len(answers)) if symbols is None else symbols
        return self.weigh(self.labels(first, count)[:, asked], answers)

    def weigh(self, labels: NDArray[np.int64], answers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weigh answers, shape (asked,), against copies' labels, shape (copies, asked): `log_evidence` of these copies."""
        matches = (labels == answers).sum(axis=1)
        evidence = EProcess(1.0 / self.classes).after(matches, len(answers) - matches)
        return np.asarray(evidence * np.log(10.0))

    def _words(self, attempt: int, first: int, count: int) -> NDArray[np.uint64]:
        key = derive(self.secret, "copy-labels/v1", self.symbols, self.classes, attempt)
        octets = 8 * self.symbols
        drawn = np.frombuffer(counter_stream(key, first * octets, count * octets), dtype="<u8")
        return drawn.reshape(count, self.symbols)
