"""Both kinds of symbols against one threshold: the average of two e-values is an e-value.

The answers to the pair symbols give E1, a mixture over strategies of colluders (`decoder`); those to the quick symbols give E2, a
mixture over shares of right answers (`quick`). For an innocent, each factor of either has expectation 1 given everything that
came before it, in whatever order symbols are asked: (E1 + E2) / 2 is a non-negative martingale that starts at 1, and the
threshold of `decoder.log_threshold` bounds it as it would bound one of them. Neither kind of symbols needs a level of
its own; what the average costs is a factor of two.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.codes.decoder import UNASKED, Decoder
from ptynet_plugin.codes.quick import QuickCode

__all__ = ["Answers", "CopyEvidence"]

_CHUNK = 1 << 11
_KEPT = 1 << 14
"""Words and labels of so many copies are kept between two looks: a few megabytes."""


@dataclass(frozen=True)
class Answers:
    """What came back, as the codes read it.

    Attributes:
        bits: One aggregated answer per position, shape (positions,): 0, 1, `ERASED` or `UNASKED`.
        quick: The top class for every quick symbol that was asked, or `LOST`, shape (asked,).
        quick_symbols: Which those are, shape (asked,).
    """

    bits: NDArray[np.int8]
    quick: NDArray[np.int64]
    quick_symbols: NDArray[np.int64]


@dataclass(frozen=True)
class CopyEvidence:
    """Evidence against the copies of one claim.

    Attributes:
        decoder: For the pair symbols.
        quick: For the quick symbols; None where there are none.
    """

    decoder: Decoder
    quick: QuickCode | None = None
    _kept: dict[int, tuple[NDArray[np.uint8], NDArray[np.int64] | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def of_all(self, copies: int, answers: Answers, *, workers: int = 1) -> NDArray[np.float64]:
        """Weigh answers against every copy from 1 to `copies`, in bounded memory.

        Args:
            copies: How many.
            answers: What came back.
            workers: Threads.

        Returns:
            Natural logarithm of every copy's e-value, shape (copies,); entry i - 1 belongs to copy i.
        """
        any_bits = bool((answers.bits != UNASKED).any())
        by_bits = self._by_bits(copies, answers, workers) if any_bits else np.zeros(copies)
        if self.quick is None:
            return by_bits
        return np.logaddexp(by_bits, self._by_quick(copies, answers, workers)) - math.log(2.0)

    def _by_bits(self, copies: int, answers: Answers, workers: int) -> NDArray[np.float64]:
        if copies > _KEPT:
            return self.decoder.log_evidence_of_all(copies, answers.bits, workers=workers)
        return self.decoder.log_evidence(self._kept_of(copies)[0], answers.bits)

    def _kept_of(self, copies: int) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        if copies not in self._kept:
            labels = None if self.quick is None else self.quick.labels(1, copies)
            self._kept[copies] = self.decoder.code.words(1, copies), labels
        return self._kept[copies]

    def _by_quick(self, copies: int, answers: Answers, workers: int) -> NDArray[np.float64]:
        quick = self.quick
        if quick is None or not len(answers.quick):
            return np.zeros(copies)
        if copies <= _KEPT:
            kept = self._kept_of(copies)[1]
            assert kept is not None
            return quick.weigh(kept[:, answers.quick_symbols], answers.quick)

        def of_chunk(start: int) -> NDArray[np.float64]:
            count = min(_CHUNK, copies - start)
            return quick.log_evidence(start + 1, count, answers.quick, symbols=answers.quick_symbols)

        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(of_chunk, range(0, copies, _CHUNK)))
        return np.concatenate(parts) if parts else np.empty(0)
