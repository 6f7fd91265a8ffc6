"""What a run tells while it is under way: how far it is, what was asked with its exact bytes, that it was stopped."""

from __future__ import annotations

from dataclasses import dataclass

from ptynet_plugin.errors import PtynetError
from ptynet_plugin.verification.endpoint import Answer, Picture
from ptynet_plugin.verification.run import Query

__all__ = ["Interrupted", "Step", "Witnessed"]


class Interrupted(PtynetError):  # noqa: N818 -- reads as the state it names
    """The run was stopped from outside between two questions; it can be resumed."""


@dataclass(frozen=True)
class Step:
    """How far a run is, after each symbol.

    Attributes:
        symbols: Symbols asked.
        hits: Hits among them.
        budget: Most symbols of this run.
        log10_e: Evidence so far.
        needed: Evidence at which the mark is shown.
    """

    symbols: int
    hits: int
    budget: int
    log10_e: float
    needed: float


@dataclass(frozen=True)
class Witnessed:
    """One question with everything that evidence may want to keep.

    Attributes:
        query: As it stands in the transcript.
        picture: What was asked, before it was encoded.
        answer: What came back, with the exact bytes; None where it was lost.
    """

    query: Query
    picture: Picture
    answer: Answer | None
