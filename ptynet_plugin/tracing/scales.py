"""Every copy's evidence against its threshold, and whether any copy answers at all."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.claims.terms import Terms
from ptynet_plugin.codes.decoder import Decoder, log_threshold
from ptynet_plugin.codes.evidence import CopyEvidence
from ptynet_plugin.statistics.eprocess import EProcess
from ptynet_plugin.statistics.exclusion import ExclusionProcess
from ptynet_plugin.tracing.reading import read_answers

__all__ = ["EXCLUDED_SHARE", "Presence", "Scales"]

EXCLUDED_SHARE = 0.3
"""Four colluders who refuse wherever they differ still answer with a label of the pair on a share of 0.39."""
_AT_ONCE = 20_000
_PRESENT = -3.0


class Scales:
    """Weighs answers against every copy of a claim; a copy once named stays named.

    Args:
        tables: What each copy answers.
        copies: Highest number ever given to one.
        trace: t, the number of the trace.
        fwer: Probability with which any innocent may ever be named, over all copies and traces.
        coalition: Largest coalition that is looked for.

    Attributes:
        log_evidence: Natural logarithm of every copy's e-value, shape (copies,).
        log_threshold: What each has to reach, shape (copies,).
    """

    def __init__(self, tables: CopyTables, *, copies: int, trace: int, fwer: float, coalition: int) -> None:
        self._tables, self._evidence = tables, CopyEvidence(Decoder(tables.code, coalition=coalition), tables.quick)
        self.log_threshold = np.asarray(log_threshold(np.arange(1, copies + 1), trace=trace, eps=fwer))
        self.log_evidence: NDArray[np.float64] = np.zeros(copies)
        self._accused: dict[int, None] = {}

    def weigh(self, answers: Mapping[int, int | None]) -> None:
        """Take in all answers there are, symbol to class."""
        read = read_answers(self._tables, answers)
        self.log_evidence = self._evidence.of_all(len(self.log_threshold), read, workers=os.cpu_count() or 1)
        lead = self.log_evidence - self.log_threshold
        named = np.flatnonzero(lead >= 0)
        for place in named[np.argsort(-lead[named], kind="stable")]:
            self._accused.setdefault(int(place) + 1)

    def due(self, asked: int) -> bool:
        """Tell whether to weigh after so many answers: a matter of time alone, looking more seldom only names later."""
        return asked % (1 + len(self.log_threshold) // _AT_ONCE) == 0

    @property
    def accused(self) -> tuple[int, ...]:
        """The copies that ever reached their threshold, in the order in which they did."""
        return tuple(self._accused)

    @property
    def best(self) -> int:
        """The copy that is closest to its threshold, or furthest beyond."""
        return int((self.log_evidence - self.log_threshold).argmax()) + 1

    @property
    def lead(self) -> float:
        """log10 of that copy's evidence over its threshold."""
        return float((self.log_evidence - self.log_threshold).max() / math.log(10.0))


class Presence:
    """Whether the mark answers at all, from the symbols that show ownership: tells "no customer" from "no name yet".

    Args:
        terms: Of the claim.
    """

    def __init__(self, terms: Terms) -> None:
        self._symbols, self._null_rate = terms.ownership, terms.null_rate
        self._mark, self._share = EProcess(terms.null_rate), ExclusionProcess(confidence=0.99)

    def observe(self, symbol: int, hit: bool, null_rate: float | None = None, *, same_view: bool = True) -> None:
        """Take an answer in; one to a symbol that shows no ownership is passed over.

        Args:
            symbol: What was asked.
            hit: Whether its label came back.
            null_rate: This answer's own null rate where a class map set one.
            same_view: Whether the picture was shown as this trace shows them. What was not heard in another view excludes nothing
                in this one; for the mark it counts all the same, since a symbol is asked once.
        """
        if symbol in self._symbols:
            rate = self._null_rate if null_rate is None else null_rate
            self._mark.update(hit, rate)
            if same_view:
                self._share.update(hit, rate)

    @property
    def log10_p(self) -> float | None:
        """Decimal logarithm of the anytime-valid p-value that the mark is there; None before any answer."""
        return self._mark.log10_p if self._mark.trials else None

    @property
    def excluded_share(self) -> float | None:
        """Smallest share of answers from a copy that is excluded at 99 %, or None."""
        return self._share.excluded_share

    @property
    def absent(self) -> bool:
        """Whether no copy answers: every share from `EXCLUDED_SHARE` up is excluded."""
        return self.excluded_share is not None and self.excluded_share <= EXCLUDED_SHARE

    @property
    def settled(self) -> bool:
        """Whether it is clear enough either way."""
        return self.absent or (self.log10_p is not None and self.log10_p <= _PRESENT)
