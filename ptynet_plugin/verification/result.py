"""What a run came to: data for programs, reports and evidence; nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ptynet_plugin.statistics.evasion import EvasionResult
from ptynet_plugin.verification.endpoint import AnswerKind, EndpointInfo
from ptynet_plugin.verification.run import Query, RunState

__all__ = ["RESULT_SCHEMA", "Outcome", "VerificationResult", "answer_kind"]

RESULT_SCHEMA = "ptynet-verification/v1"
Outcome = Literal["shown", "not-shown", "inconclusive", "evasion-suspected"]
LARGEST_E = 300.0
KINDS: tuple[AnswerKind, ...] = ("labels", "topk", "probabilities", "logits")


@dataclass(frozen=True)
class VerificationResult:
    """The verdict and everything it rests on.

    Attributes:
        verdict: See `docs/protocol.md`.
        run: What was registered and asked.
        info: What the endpoint said of itself.
        answers: How much its answers told, at the least.
        null_rate: Chance of a hit without the key, see `Terms.null_rate`.
        log10_e: Decimal logarithm of the e-value at the end.
        log10_p: Decimal logarithm of the anytime-valid p-value.
        log10_p_adjusted: The same after the allowance for keys that may have been tried before.
        allowance: That allowance in bits.
        excluded_rate: Smallest hit rate that the answers exclude at 99 %, or None.
        symbols: Symbols asked.
        hits: Hits among them.
        evidence: log10 E after every symbol, earlier runs included.
        evasion: The paired controls.
        grade: How much the run is worth to others.
        key_is_claims: Whether the key is the one that made the claim; if not, nothing was registered.
        finished: When, ISO 8601 in UTC.
    """

    verdict: Outcome
    run: RunState
    info: EndpointInfo
    answers: AnswerKind
    null_rate: float
    log10_e: float
    log10_p: float
    log10_p_adjusted: float
    allowance: int
    excluded_rate: float | None
    symbols: int
    hits: int
    evidence: tuple[float, ...]
    evasion: EvasionResult
    grade: str
    key_is_claims: bool
    finished: str

    @property
    def queries(self) -> int:
        """Probes sent, all covers of all symbols."""
        return len(self.run.probes)

    @property
    def needed(self) -> float:
        """log10 E at which the mark is shown."""
        return -math.log10(self.run.alpha_spent)

    @property
    def e_value(self) -> float:
        """The e-value, at most 1e300."""
        return float(10.0 ** min(self.log10_e, LARGEST_E))

    @property
    def p_value(self) -> float:
        """The anytime-valid p-value; 0 where it underflows, `log10_p` is exact."""
        return float(10.0**self.log10_p)

    def to_json(self) -> dict[str, Any]:
        """Give the object that `verify --json` writes: numbers, strings and None only, all of them finite."""
        run = self.run
        return {
            "schema": RESULT_SCHEMA,
            "verdict": self.verdict,
            "alpha": run.alpha,
            "p_value": self.p_value,
            "log10_p": self.log10_p,
            "log10_p_adjusted": self.log10_p_adjusted,
            "e_value": self.e_value,
            "log10_e": self.log10_e if math.isfinite(self.log10_e) else None,
            "queries": self.queries,
            "symbols": self.symbols,
            "hits": self.hits,
            "null_rate": self.null_rate,
            "answers": self.answers,
            "endpoint": self.info.address,
            "started": run.started,
            "finished": self.finished,
            "grade": self.grade,
            "run_id": run.run_id,
            "claim": run.claim,
            "key_is_claims": self.key_is_claims,
            "registered": run.registered,
            "test_number": run.number,
            "alpha_spent": run.alpha_spent,
            "allowance_bits": self.allowance,
            "excluded_rate": self.excluded_rate,
            "budget": run.budget,
            "covers": run.covers,
            "class_map": run.class_map,
            "view": run.view,
            "earlier": {"symbols": len(run.earlier), "hits": sum(run.earlier)},
            "controls": len(run.controls),
            "lost": sum(query.lost is not None for query in run.probes),
            "evasion": {
                "pairs": self.evasion.pairs,
                "only_probe": self.evasion.only_probe,
                "only_control": self.evasion.only_control,
                "p_value": self.evasion.anytime_p_value,
            },
            "server": {
                "identity": self.info.identity,
                "announces": self.info.server,
                "model": self.info.model,
                "version": self.info.version,
                "reads": self.info.reads,
                **dict(self.info.details),
            },
            "transcript": [query.model_dump(mode="json", exclude_none=False) for query in run.queries],
        }


def answer_kind(queries: Sequence[Query], *, otherwise: AnswerKind = "labels") -> AnswerKind:
    """Give the least that any answer told."""
    told = [KINDS.index(query.kind) for query in queries if query.kind is not None]
    return KINDS[min(told)] if told else otherwise
