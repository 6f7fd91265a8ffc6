"""How much a run is worth to somebody who trusts neither its claimant nor this project."""

from __future__ import annotations

from typing import Final

__all__ = ["PARTY", "STAMPED", "UNSTAMPED", "WITNESSED", "grade_of"]

UNSTAMPED: Final = "party evidence, unstamped"
"""Who asked says when he fixed his probes, and what came back."""

PARTY: Final = "party evidence"
"""The claim was stamped before the run; what came back is the word of who asked."""

STAMPED: Final = "stamped"
"""The same, and two stamps hold the run's header and its transcript between them: nothing was written later."""

WITNESSED: Final = "witnessed"
"""A neutral person asked the sealed reserve, in an order that a public beacon drew. Only this may be called proof."""


def grade_of(*, claim_stamped: bool, run_stamped: bool, witnessed: bool) -> str:
    """Give the grade; an unstamped claim caps it, whoever asked.

    Args:
        claim_stamped: Whether the claim was stamped before its labels were drawn.
        run_stamped: Whether the run's header was stamped before the first question and its transcript after the last.
        witnessed: Whether a neutral person asked the reserve in beacon order.
    """
    if not claim_stamped:
        return UNSTAMPED
    if witnessed:
        return WITNESSED
    return STAMPED if run_stamped else PARTY
