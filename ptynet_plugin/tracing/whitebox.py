"""Which copy a label table is of, with an exact p-value.

The word of an innocent's copy is independent of the table. At a pair symbol his label stands in the table with the probability of
that bit under the position's bias, at a quick symbol with 1/C; the number of his labels that stand there is a sum of
independent indicators, whose tail is computed exactly. A table mixed from several copies matches none of them as a whole: the
evidence of `codes.evidence` over the same table names them. Each of the two gets half of the level: copy i is named when

    min(p, 1 / E) <= 1/2 * 6 fwer / (i (i + 1) t^2 pi^2)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.codes.decoder import UNASKED
from ptynet_plugin.codes.evidence import Answers
from ptynet_plugin.codes.quick import LOST
from ptynet_plugin.tracing.reading import bits_as_text, read_answers
from ptynet_plugin.tracing.result import TRACE_SCHEMA, CopyFacts, Readback, TraceOutcome
from ptynet_plugin.tracing.scales import Scales
from ptynet_plugin.tracing.table import FoundTable

__all__ = ["TableReading", "log10_match_p", "read_table", "table_json"]

_LN10 = math.log(10.0)
_CHUNK = 1 << 12
_MOST_MANIFESTS = 100_000


@dataclass(frozen=True)
class TableReading:
    """What a table says.

    Attributes:
        symbols: Symbols of the code whose labels were found.
        bits: What was read, shape (positions,).
        accused: Copies that are named, the closest first.
        best: The copy that matches best.
        matches: Its labels that stand in the table.
        compared: Labels that were compared.
        log10_p: log10 of the exact probability that an innocent's copy matches as well.
        log10_p_adjusted: The same, paid for all copies and traces and for both ways of looking: times i (i + 1) t^2 pi^2 / 3.
        log_evidence: Natural logarithm of every copy's e-value, shape (copies,).
        log_threshold: What each has to reach with half of the level, shape (copies,).
        readback: The bits against the best copy's word.
        manifest_copy: The copy that the archive's manifest names, or None; anybody can write a manifest, so no evidence.
    """

    symbols: int
    bits: NDArray[np.int8] = field(repr=False)
    accused: tuple[int, ...]
    best: int
    matches: int
    compared: int
    log10_p: float
    log10_p_adjusted: float
    log_evidence: NDArray[np.float64] = field(repr=False)
    log_threshold: NDArray[np.float64] = field(repr=False)
    readback: Readback
    manifest_copy: int | None

    @property
    def verdict(self) -> TraceOutcome:
        """What the table comes to: a table of this key that is no copy's leaves it open."""
        return "traced" if self.accused else "inconclusive"


def read_table(
    found: FoundTable, tables: CopyTables, *, copies: int, trace: int, fwer: float, coalition: int
) -> TableReading:
    """Name the copies that a table is of.

    Args:
        found: The table.
        tables: What each copy answers.
        copies: Highest number ever given to one.
        trace: t, given by the registry before.
        fwer: Probability with which any innocent may ever be named.
        coalition: Largest coalition to look for.
    """
    scales = Scales(tables, copies=copies, trace=trace, fwer=fwer / 2, coalition=coalition)
    scales.weigh(dict(found.labels))
    answers = read_answers(tables, dict(found.labels))
    matches, chances = _matches(tables, answers, copies), _chances(tables, answers)
    best = int(matches.argmax()) + 1
    log10_p = log10_match_p(int(matches[best - 1]), chances)
    log10_p_adjusted = min(0.0, log10_p + float(scales.log_threshold[best - 1]) / _LN10 + math.log10(fwer))
    named = [best] if log10_p_adjusted <= math.log10(fwer) else []
    return TableReading(
        symbols=int((answers.bits != UNASKED).sum()) + len(answers.quick),
        bits=answers.bits,
        accused=tuple(dict.fromkeys([*named, *scales.accused])),
        best=best,
        matches=int(matches[best - 1]),
        compared=len(chances),
        log10_p=log10_p,
        log10_p_adjusted=log10_p_adjusted,
        log_evidence=scales.log_evidence,
        log_threshold=scales.log_threshold,
        readback=Readback.of(best, tables.code.word(best), answers.bits),
        manifest_copy=_manifest_copy(found, tables, copies),
    )


def table_json(
    reading: TableReading | None, facts: Mapping[int, CopyFacts], *, where: str, claim: str, fwer: float
) -> dict[str, Any]:
    """Give the object that `trace ARCHIVE --json` writes.

    Args:
        reading: What the table says; None where the archive holds none of the key.
        facts: What the registry says, of the accused and the best copy at least.
        where: The archive.
        claim: Digest of the claim.
        fwer: Probability with which any innocent may ever be named.
    """
    head = {"schema": TRACE_SCHEMA, "mode": "white-box", "archive": where, "claim": claim, "fwer": fwer}
    if reading is None:
        return {**head, "verdict": "no-customer", "accused": []}
    return {
        **head,
        "verdict": reading.verdict,
        "accused": [_copy(copy, reading, facts) for copy in reading.accused],
        "best": _copy(reading.best, reading, facts),
        "matches": reading.matches,
        "compared": reading.compared,
        "log10_p": reading.log10_p,
        "log10_p_adjusted": reading.log10_p_adjusted,
        "symbols": reading.symbols,
        "positions": len(reading.bits),
        "bits": bits_as_text(reading.bits),
        "readback": reading.readback.to_json(),
        "manifest_copy": reading.manifest_copy,
    }


def _copy(copy: int, reading: TableReading, facts: Mapping[int, CopyFacts]) -> dict[str, Any]:
    known = facts.get(copy)
    return {
        "copy": copy,
        "customer": None if known is None else known.customer,
        "revoked": known is not None and known.revoked_at is not None,
        "log10_e": float(reading.log_evidence[copy - 1]) / _LN10,
        "log10_threshold": float(reading.log_threshold[copy - 1]) / _LN10,
    }


def log10_match_p(matches: int, chances: NDArray[np.float64]) -> float:
    """Give log10 of the probability that at least so many of independent events happen.

    Args:
        matches: From 0 to the number of events.
        chances: Probability of each in (0, 1), shape (events,).

    Returns:
        Exact up to rounding, far below the smallest double too: sums of positive terms, rescaled after every event.
    """
    most_misses = len(chances) - matches
    missed, log10_scale = np.ones(1), 0.0
    for chance in chances:
        missed = np.convolve(missed, [chance, 1.0 - chance])[: most_misses + 1]
        top = float(missed.max())
        missed, log10_scale = missed / top, log10_scale + math.log10(top)
    return min(0.0, math.log10(float(missed.sum())) + log10_scale)


def _chances(tables: CopyTables, answers: Answers) -> NDArray[np.float64]:
    """Give the chance of an innocent's copy to match each label that was read, shape (compared,)."""
    bits, ones = answers.bits, tables.code.biases()[tables.code.levels()]
    quick = np.full(int((answers.quick != LOST).sum()), 1.0 / tables.claim.terms.classes)
    return np.concatenate([ones[bits == 1], 1.0 - ones[bits == 0], quick])


def _matches(tables: CopyTables, answers: Answers, copies: int) -> NDArray[np.int64]:
    """Count every copy's labels that stand in the table, shape (copies,)."""
    parts = []
    for first in range(1, copies + 1, _CHUNK):
        count = min(_CHUNK, copies + 1 - first)
        words = np.unpackbits(tables.code.words(first, count), axis=1)
        matches = (words == answers.bits).sum(axis=1, dtype=np.int64)
        if tables.quick is not None:
            labels = tables.quick.labels(first, count)[:, answers.quick_symbols]
            matches += (labels == answers.quick).sum(axis=1, dtype=np.int64)
        parts.append(matches)
    return np.concatenate(parts)


def _manifest_copy(found: FoundTable, tables: CopyTables, copies: int) -> int | None:
    name = found.name
    if found.manifest_claim is None or name is None:
        return None
    numbers = range(1, min(copies, _MOST_MANIFESTS) + 1)
    return next((n for n in numbers if tables.archive_commitment(n, name) == found.manifest_claim), None)
