"""Which symbols a trace asks, in which order, and what an answer says of a copy's word."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.codes.decoder import ERASED, UNASKED
from ptynet_plugin.codes.evidence import Answers
from ptynet_plugin.codes.quick import LOST
from ptynet_plugin.symbols.encoding import tagged_digest

__all__ = ["bits_as_text", "read_answers", "trace_order"]


def trace_order(claim: Claim, run_id: str) -> list[int]:
    """Give the symbols a trace asks: the quick ones first, each kind in an order that follows from the registered run alone.

    It depends on no customer, no suspect and no answer: which symbols were asked when a run ends tells nothing of whom they name.
    """
    digest = bytes.fromhex(claim.digest)

    def place(symbol: int) -> bytes:
        return tagged_digest("trace-order/v1", digest, run_id, symbol)

    return sorted(claim.terms.quick, key=place) + sorted(claim.terms.pairs, key=place)


def read_answers(tables: CopyTables, answers: Mapping[int, int | None]) -> Answers:
    """Read answers as the codes do.

    Args:
        tables: Of the claim.
        answers: Symbol to the one class that was answered; None for lost, tied or without agreement. Symbols of one label
            are passed over.

    Returns:
        An answer that is neither of a pair's labels, or none at all, is an erasure; a quick symbol without a class is a miss.
    """
    terms = tables.claim.terms
    bits = np.full(len(terms.pairs), UNASKED, dtype=np.int8)
    for symbol in terms.pairs:
        if symbol in answers:
            bits[symbol] = _bit(tables.pairs[symbol], answers[symbol])
    quick = [symbol for symbol in terms.quick if symbol in answers]
    classes = [LOST if answers[symbol] is None else answers[symbol] for symbol in quick]
    return Answers(
        bits=bits,
        quick=np.array(classes, dtype=np.int64),
        quick_symbols=np.array(quick, dtype=np.int64) - terms.quick.start,
    )


def bits_as_text(bits: NDArray[np.int8]) -> str:
    """Write bits in a row: 0, 1, "-" for an erasure, "." for a position that was not asked."""
    letters = {0: "0", 1: "1", ERASED: "-", UNASKED: "."}
    return "".join(letters[int(bit)] for bit in bits)


def _bit(pair: NDArray[np.int64], answer: int | None) -> int:
    if answer == pair[0]:
        return 1
    return 0 if answer == pair[1] else ERASED
