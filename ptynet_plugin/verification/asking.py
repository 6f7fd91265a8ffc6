"""Asks one symbol after the other, for a verification and for a trace alike.

A symbol is spent before its first question and noted after its last; its covers are one majority vote. Pace and retries are the
endpoint's; here is what becomes of silence: what is lost is a miss or an erasure, once and for ever, benign controls come in
once a probe got no class, and where they are lost as well the endpoint is down and nothing more is asked.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime

from ptynet_plugin.errors import EndpointError
from ptynet_plugin.verification.answers import BrokenScores
from ptynet_plugin.verification.controls import benign_are_lost, questions_of
from ptynet_plugin.verification.endpoint import Answer, Endpoint
from ptynet_plugin.verification.events import Witnessed
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.run import NEVER_ANSWERED, Query, RunState, SymbolOutcome, symbol_outcomes

__all__ = ["SymbolAsker", "greet"]

LONGEST_REASON = 300


def greet(endpoint: Endpoint, questions: Questions) -> None:
    """Make sure with one benign picture that somebody answers, in a form that can be read: who is down costs no symbol.

    Raises:
        EndpointError: Nobody does.
    """
    endpoint.ask(
        questions.control(secrets.randbelow(questions.claim.terms.symbols))
    )  # always the same would be recognised


class SymbolAsker:
    """Asks for one run.

    Args:
        endpoint: The suspect.
        questions: What to ask.
        run: Every question is added to it before it is sent, and completed by what comes back.
        spend: Told of a symbol before its first question; from then on it is spent, whatever happens.
        note: Told what a symbol's covers came to, before anything is made of it.
        now: The time, with zone.
        keep: Called whenever the run has changed.
        witness: Handed every question with its exact bytes.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        questions: Questions,
        run: RunState,
        *,
        spend: Callable[[int], None],
        note: Callable[[SymbolOutcome], None],
        now: Callable[[], datetime],
        keep: Callable[[], None] = lambda: None,
        witness: Callable[[Witnessed], None] = lambda witnessed: None,
    ) -> None:
        self._endpoint, self._questions, self._run = endpoint, questions, run
        self._spend, self._note, self._now, self._keep, self._witness = spend, note, now, keep, witness
        self._error: EndpointError | None = None
        self._fatal: BrokenScores | None = None

    def ask(self, symbol: int) -> SymbolOutcome:
        """Ask all covers of a symbol, and its control where some probe got no class before.

        Raises:
            ClaimError: Its pictures are not the committed ones, or it was asked here before.
        """
        if self._questions.owned:
            self._questions.require_committed(symbol)
        self._endpoint.wait()
        self._spend(symbol)
        before = len(self._run.queries)
        for cover, control in questions_of(self._run, symbol):
            self._ask(symbol, cover, control=control)
        (outcome,) = symbol_outcomes(self._run.model_copy(update={"queries": self._run.queries[before:]}))
        self._note(outcome)
        return outcome

    def require_life(self, *, if_broken: str, if_down: str) -> None:
        """Stop asking where no run can go on.

        Args:
            if_broken: What to tell the user where the scores are unusable.
            if_down: What to tell him where the last benign controls were lost as well.

        Raises:
            BrokenScores: The endpoint answers no usable scores.
            EndpointError: It is down.
        """
        if self._fatal is not None:
            raise BrokenScores(f"{self._fatal}; {if_broken}") from self._fatal
        if benign_are_lost(self._run):
            raise EndpointError(
                f"{self._error}; benign pictures are lost as well, so the endpoint is down{if_down}"
            ) from self._error

    def _ask(self, symbol: int, cover: int, *, control: bool) -> None:
        picture = self._questions.control(symbol) if control else self._questions.probe(symbol, cover)
        self._endpoint.wait()
        at = self._now().isoformat(timespec="milliseconds")
        query = Query(symbol=symbol, cover=cover, control=control, lost=NEVER_ANSWERED, at=at)
        self._run.queries.append(query)
        self._keep()
        answer: Answer | None = None
        try:
            answer = self._endpoint.ask(picture)
        except EndpointError as error:
            self._error = error
            if isinstance(error, BrokenScores):
                self._fatal = error
            query = query.model_copy(update={"lost": f"{type(error).__name__}: {error}"[:LONGEST_REASON]})
        else:
            query = self._answered(query, answer)
        self._run.queries[-1] = query
        self._keep()
        self._witness(Witnessed(query, picture, answer))

    def _answered(self, query: Query, answer: Answer) -> Query:
        hit = not query.control and self._questions.hit(query.symbol, answer.top)
        return query.model_copy(
            update={
                "lost": None,
                "answer": answer.top,
                "hit": hit,
                "seconds": round(answer.seconds, 6),
                "kind": answer.kind,
                "request_sha256": hashlib.sha256(answer.request).hexdigest(),
                "answer_sha256": hashlib.sha256(answer.raw).hexdigest(),
            }
        )
