"""What a trace came to: data for programs and reports; nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.codes.decoder import ERASED, UNASKED
from ptynet_plugin.tracing.reading import bits_as_text
from ptynet_plugin.verification.endpoint import AnswerKind, EndpointInfo
from ptynet_plugin.verification.run import RunState

__all__ = ["LISTED", "TRACE_SCHEMA", "CopyFacts", "Readback", "TraceOutcome", "TraceResult"]

TRACE_SCHEMA = "ptynet-trace/v1"
TraceOutcome = Literal["traced", "no-customer", "inconclusive"]

LISTED = 10_000
"""Evidence of so many copies stands in the JSON; beyond it only the strongest."""
_STRONGEST = 10
_LN10 = math.log(10.0)


class CopyFacts(Protocol):
    """What the registry says of a copy."""

    @property
    def customer(self) -> str:
        """Who got it."""

    @property
    def revoked_at(self) -> str | None:
        """When it was revoked, or None."""


@dataclass(frozen=True)
class Readback:
    """The bits that were read, held against one copy's word.

    Attributes:
        copy: Whose word.
        positions: Length of the word.
        right: Bits read as they are.
        wrong: Bits read as the other.
        erased: Positions whose answer was neither label.
    """

    copy: int
    positions: int
    right: int
    wrong: int
    erased: int

    @classmethod
    def of(cls, copy: int, word: NDArray[np.uint8], bits: NDArray[np.int8]) -> Readback:
        """Compare bits with a word, both of shape (positions,)."""
        read = (bits != UNASKED) & (bits != ERASED)
        right = int((read & (bits == word)).sum())
        return cls(copy, len(word), right, int(read.sum()) - right, int((bits == ERASED).sum()))

    def to_json(self) -> dict[str, int]:
        """Give the counts, and how many positions were not asked."""
        unasked = self.positions - self.right - self.wrong - self.erased
        return {**self.__dict__, "unasked": unasked}


@dataclass(frozen=True)
class TraceResult:
    """The verdict and everything it rests on.

    Attributes:
        verdict: "traced": a copy is named; "no-customer": the answers exclude that any copy answers; else "inconclusive".
        trace: t, the number of this trace within the claim.
        fwer: Probability with which any innocent may ever be named, over all copies and traces.
        coalition: Largest coalition that the decoder looked for.
        run: What was asked now.
        info: What the endpoint said of itself.
        answers: How much its answers told, at the least.
        reused: Symbols whose answer was read from the ledger: asked here before, and never asked again.
        bits: What was read, shape (positions,).
        log_evidence: Natural logarithm of every copy's e-value, shape (copies,).
        log_threshold: What each would have to reach, shape (copies,).
        accused: Numbers of the copies that reached it, strongest first.
        readback: The bits against the strongest copy's word.
        mark_log10_p: Decimal logarithm of the p-value that the mark itself is there, from the same answers; None where they tell
            nothing of it.
        excluded_share: Smallest share of answers from a copy that is excluded at 99 %, or None.
        notes: What a reader must know besides.
        finished: When, ISO 8601 in UTC.
    """

    verdict: TraceOutcome
    trace: int
    fwer: float
    coalition: int
    run: RunState
    info: EndpointInfo
    answers: AnswerKind
    reused: int
    bits: NDArray[np.int8] = field(repr=False)
    log_evidence: NDArray[np.float64] = field(repr=False)
    log_threshold: NDArray[np.float64] = field(repr=False)
    accused: tuple[int, ...]
    readback: Readback
    mark_log10_p: float | None
    excluded_share: float | None
    notes: tuple[str, ...]
    finished: str

    @property
    def copies(self) -> int:
        """Copies that were weighed: all numbers ever given, revoked and unfinished ones among them."""
        return len(self.log_evidence)

    @property
    def queries(self) -> int:
        """Probes sent, all covers of all symbols."""
        return len(self.run.probes)

    @property
    def symbols(self) -> int:
        """Symbols asked in this run."""
        return len({query.symbol for query in self.run.probes})

    def strongest(self, most: int = _STRONGEST) -> list[int]:
        """Give the numbers of the copies with the most evidence, measured against their thresholds."""
        lead = self.log_evidence - self.log_threshold
        first = np.argpartition(-lead, min(most, len(lead)) - 1)[:most] if len(lead) else np.empty(0, np.int64)
        return [int(place) + 1 for place in first[np.argsort(-lead[first], kind="stable")]]

    def log10_e(self, copy: int) -> float:
        """Give the decimal logarithm of a copy's e-value."""
        return float(self.log_evidence[copy - 1] / _LN10)

    def log10_threshold(self, copy: int) -> float:
        """Give the decimal logarithm of a copy's threshold."""
        return float(self.log_threshold[copy - 1] / _LN10)

    def to_json(self, facts: Mapping[int, CopyFacts]) -> dict[str, Any]:
        """Give the object that `trace --json` writes.

        Args:
            facts: What the registry says, for the copies it is asked about at least: the accused and the strongest.
        """
        run = self.run
        whole = self.copies <= LISTED
        return {
            "schema": TRACE_SCHEMA,
            "mode": "black-box",
            "verdict": self.verdict,
            "accused": [self._copy(copy, facts) for copy in self.accused],
            "fwer": self.fwer,
            "trace": self.trace,
            "coalition": self.coalition,
            "copies": self.copies,
            "queries": self.queries,
            "symbols": self.symbols,
            "reused": self.reused,
            "positions": len(self.bits),
            "bits": bits_as_text(self.bits),
            "readback": self.readback.to_json(),
            "answers": self.answers,
            "endpoint": self.info.address,
            "started": run.started,
            "finished": self.finished,
            "run_id": run.run_id,
            "view": run.view,
            "claim": run.claim,
            "mark_log10_p": self.mark_log10_p,
            "excluded_share": self.excluded_share,
            "strongest": [self._copy(copy, facts) for copy in self.strongest()],
            "log10_evidence": np.round(self.log_evidence / _LN10, 6).tolist() if whole else None,
            "notes": list(self.notes),
            "lost": sum(query.lost is not None for query in run.probes),
            "server": {
                "identity": self.info.identity,
                "announces": self.info.server,
                "model": self.info.model,
                "version": self.info.version,
                "reads": self.info.reads,
                **dict(self.info.details),
            },
            "transcript": [query.model_dump(mode="json") for query in run.queries],
        }

    def _copy(self, copy: int, facts: Mapping[int, CopyFacts]) -> dict[str, Any]:
        known = facts.get(copy)
        return {
            "copy": copy,
            "customer": None if known is None else known.customer,
            "revoked": known is not None and known.revoked_at is not None,
            "log10_e": self.log10_e(copy),
            "log10_threshold": self.log10_threshold(copy),
        }
