"""Benign pictures beside the probes: is the endpoint down, or does it look for probes?

They are asked only once some probe got no class. Whether a symbol is paired is decided before it is asked, and which of the two
comes first by lot, so that the two of a pair are exchangeable for an endpoint that does not tell probes apart.
"""

from __future__ import annotations

from collections.abc import Callable

from ptynet_plugin.symbols.encoding import tagged_digest
from ptynet_plugin.verification.run import Query, RunState

__all__ = ["EVASION_LEVEL", "LOST_PAIRS", "benign_are_lost", "questions_of", "refused_pairs"]

EVASION_LEVEL = 1e-3
"""Fixed before any run; evasion never counts as ownership, so that this level is a reason to look closer and no proof."""

LOST_PAIRS = 2
"""So many symbols in a row lost together with their benign controls mean that the endpoint is down."""


def questions_of(run: RunState, symbol: int) -> list[tuple[int, bool]]:
    """Give what to ask for a symbol, in order: (cover, whether it is the control of cover 0)."""
    asked = [(cover, False) for cover in range(run.covers)]
    if any(query.refused for query in run.queries):
        place = tagged_digest("pair-order/v1", run.run_id, symbol)[0] & 1
        asked.insert(place, (run.covers, True))
    return asked


def refused_pairs(run: RunState) -> list[tuple[bool, bool]]:
    """Give for every pair, in order, whether probe and control got no class."""
    return _pairs(run, lambda query: query.refused)


def benign_are_lost(run: RunState) -> bool:
    """Tell whether the last `LOST_PAIRS` pairs were lost as a whole."""
    last = _pairs(run, lambda query: query.lost is not None)[-LOST_PAIRS:]
    return len(last) == LOST_PAIRS and all(probe and control for probe, control in last)


def _pairs(run: RunState, bad: Callable[[Query], bool]) -> list[tuple[bool, bool]]:
    probes = {query.symbol: query for query in run.probes if query.cover == 0}
    return [(bad(probes[control.symbol]), bad(control)) for control in run.controls if control.symbol in probes]
