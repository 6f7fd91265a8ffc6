"""Asks an endpoint one symbol after the other; question and answer stand in the claim's ledger before anything is made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime

from ptynet_plugin.claims.ledger import Ledger, Run
from ptynet_plugin.errors import EndpointError
from ptynet_plugin.verification.answers import BrokenScores
from ptynet_plugin.verification.controls import benign_are_lost, questions_of
from ptynet_plugin.verification.endpoint import Answer, Endpoint
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.run import NEVER_ANSWERED, Query, RunState, SymbolOutcome, symbol_outcomes

__all__ = ["SymbolAsker"]

_LONGEST_REASON = 300


class SymbolAsker:
    """Asks for one run; a symbol's covers are one aggregated answer, recorded once for ever.

    Args:
        endpoint: The suspect.
        questions: Of the key that made the claim.
        ledger: The claim's open ledger.
        entry: The run as the ledger knows it.
        run: The run as its result shows it; every question is added to it.
        now: The time, with zone.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        questions: Questions,
        *,
        ledger: Ledger,
        entry: Run,
        run: RunState,
        now: Callable[[], datetime],
    ) -> None:
        self._endpoint, self._questions, self._ledger = endpoint, questions, ledger
        self._entry, self._run, self._now = entry, run, now

    def ask(self, symbol: int) -> SymbolOutcome:
        """Ask a symbol; it is spent at this endpoint whatever happens.

        Raises:
            ClaimError: Its pictures are not the committed ones, or it was asked here before.
            EndpointError: The endpoint is down, or answers no usable scores; what was asked is noted.
        """
        self._questions.require_committed(symbol)
        self._endpoint.wait()
        self._ledger.ask(self._entry, symbol)
        before = len(self._run.queries)
        errors = [self._ask(symbol, cover, control=control) for cover, control in questions_of(self._run, symbol)]
        alone = self._run.model_copy(update={"queries": self._run.queries[before:]})
        (outcome,) = symbol_outcomes(alone)
        owned = outcome.hit and symbol in self._questions.claim.terms.ownership
        self._ledger.answer(self._entry, symbol, hit=owned, answer=outcome.answer)
        last = next((error for error in reversed(errors) if error is not None), None)
        if isinstance(last, BrokenScores):
            raise BrokenScores(f"{last}; what was asked is kept in the claim's ledger") from last
        if benign_are_lost(self._run):
            raise EndpointError(
                f"{last}; benign pictures are lost as well, so the endpoint is down; what was asked is kept in the claim's "
                "ledger, trace again when it is up"
            ) from last
        return outcome

    def _ask(self, symbol: int, cover: int, *, control: bool) -> EndpointError | None:
        picture = self._questions.control(symbol) if control else self._questions.probe(symbol, cover)
        self._endpoint.wait()
        at = self._now().isoformat(timespec="milliseconds")
        query = Query(symbol=symbol, cover=cover, control=control, lost=NEVER_ANSWERED, at=at)
        try:
            answer = self._endpoint.ask(picture)
        except EndpointError as error:
            self._run.queries.append(
                query.model_copy(update={"lost": f"{type(error).__name__}: {error}"[:_LONGEST_REASON]})
            )
            return error
        self._run.queries.append(self._answered(query, answer))
        return None

    def _answered(self, query: Query, answer: Answer) -> Query:
        return query.model_copy(
            update={
                "lost": None,
                "answer": answer.top,
                "hit": not query.control and self._questions.hit(query.symbol, answer.top),
                "seconds": round(answer.seconds, 6),
                "kind": answer.kind,
                "request_sha256": hashlib.sha256(answer.request).hexdigest(),
                "answer_sha256": hashlib.sha256(answer.raw).hexdigest(),
            }
        )
