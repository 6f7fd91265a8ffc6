"""A run's line to its claim's ledger: registered before the first question, told of every symbol, never contradicted.

A rehearsal (no ledger, or a key that did not make the claim) is registered nowhere and is no evidence.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.ledger import Ledger, Run
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.statistics.decision import alpha_of_test
from ptynet_plugin.verification.run import NEVER_ANSWERED, Query, RunState, SymbolOutcome, symbol_outcomes

__all__ = ["DEFAULT_ALPHA", "DEFAULT_BUDGET", "Registration", "begin", "resume"]

DEFAULT_ALPHA = 1e-9
DEFAULT_BUDGET = 200


class Registration:
    """A run, and the ledger that knows it, if one does.

    Args:
        run: The run as its file keeps it.
        ledger: The open ledger, or None for a rehearsal.
        entry: The run as the ledger knows it.
        keeps_answers: Whether the ledger holds the class that was answered, see `answer`.
    """

    def __init__(
        self, run: RunState, ledger: Ledger | None = None, entry: Run | None = None, *, keeps_answers: bool = False
    ) -> None:
        self.run, self._ledger, self._entry, self._keeps_answers = run, ledger, entry, keeps_answers

    @property
    def spent_before(self) -> frozenset[int]:
        """Symbols that other runs asked at this endpoint, or that were opened in evidence."""
        if self._entry is None:
            return frozenset()
        return self._entry.disclosed | {trial.symbol for trial in self._entry.earlier}

    def ask(self, symbol: int) -> None:
        """Spend a symbol; what happens afterwards cannot undo it."""
        if self._ledger is not None and self._entry is not None:
            self._ledger.ask(self._entry, symbol)

    def answer(self, outcome: SymbolOutcome, null_rate: float | None = None) -> None:
        """Note what a symbol's covers came to; under a claim for copies the class as well, for a trace reads it here."""
        if self._ledger is not None and self._entry is not None:
            facts = {"answer": outcome.answer} if self._keeps_answers else {}
            self._ledger.answer(self._entry, outcome.symbol, hit=outcome.hit, null_rate=null_rate, **facts)

    def finish(self, verdict: str, finished: str) -> None:
        """Note the verdict."""
        if self._ledger is not None and self._entry is not None:
            self._ledger.finish(self._entry, verdict=verdict, finished=finished)

    def reconcile(self, null_rate: Callable[[int | None], float | None] = lambda answer: None) -> None:
        """After an interruption: what was begun and has no answer is lost, in the run's file and in the ledger alike.

        Args:
            null_rate: The null rate that goes with a symbol's answer, see `Questions.null_rate`.

        Raises:
            ClaimError: File and ledger contradict each other.
        """
        noted = {trial.symbol: trial for trial in self._entry.own} if self._entry else {}
        self._complete(list(dict.fromkeys([query.symbol for query in self.run.probes] + list(noted))))
        for outcome in symbol_outcomes(self.run):
            trial = noted.get(outcome.symbol)
            if trial is None:
                self.ask(outcome.symbol)
            if trial is None or not trial.answered:
                self.answer(outcome, null_rate(outcome.answer))
            elif trial.hit != outcome.hit:
                raise ClaimError(
                    f"symbol {outcome.symbol} stands as {'a hit' if trial.hit else 'a miss'} in the claim's ledger and "
                    "otherwise in the run's file; the file was altered"
                )

    def _complete(self, begun: list[int]) -> None:
        for symbol in begun:
            have = {query.cover for query in self.run.probes if query.symbol == symbol}
            missing = [cover for cover in range(self.run.covers) if cover not in have]
            self.run.queries.extend(Query(symbol=symbol, cover=cover, lost=NEVER_ANSWERED) for cover in missing)


def begin(
    claim: Claim,
    identity: str,
    *,
    alpha: float | None,
    budget: int | None,
    ledger: Ledger | None,
    class_map: ClassMap | None = None,
    view: str = "plain",
    now: Callable[[], datetime],
) -> Registration:
    """Register a new run.

    Args:
        claim: What it tests.
        identity: The endpoint, see `EndpointInfo.identity`.
        alpha: Level over all tests of the claim; None for `DEFAULT_ALPHA`.
        budget: Most probes; None for `DEFAULT_BUDGET`.
        ledger: Where; None for a rehearsal.
        class_map: Frozen by this registration, before the order of the symbols is drawn.
        view: Frozen likewise: how the committed pictures are shown.
        now: The time.

    Raises:
        UsageError: A level outside (0, 1), or a budget below one symbol.
        ClaimError: The ledger cannot be written.
    """
    alpha = DEFAULT_ALPHA if alpha is None else alpha
    budget = DEFAULT_BUDGET if budget is None else budget
    covers = claim.terms.covers
    if not 0.0 < alpha < 1.0:
        raise UsageError(f"--alpha is {alpha:g}, expected a level between 0 and 1")
    if budget < covers:
        raise UsageError(f"--budget is {budget}, one symbol alone needs {covers} probes")
    started = now().isoformat(timespec="milliseconds")
    entry = None
    if ledger is not None:
        facts: dict[str, Any] = {} if class_map is None else {"class_map": _listed(class_map)}
        facts |= {} if view == "plain" else {"view": view}
        entry = ledger.register(identity, alpha=alpha, budget=budget // covers, started=started, **facts)
    earlier = [trial for trial in entry.earlier if claim.terms.counts(trial.symbol)] if entry else []
    run = RunState(
        run_id=entry.id if entry else secrets.token_hex(16),
        claim=claim.digest,
        endpoint=identity,
        alpha=alpha,
        budget=budget,
        number=entry.number if entry else 1,
        alpha_spent=entry.alpha if entry else alpha_of_test(alpha, 1),
        registered=entry is not None,
        covers=covers,
        started=started,
        earlier=[trial.hit for trial in earlier],
        earlier_null_rates=[trial.null_rate for trial in earlier],
        class_map=_listed(class_map),
        view=view,
    )
    return Registration(run, ledger, entry, keeps_answers=claim.terms.copies is not None)


def resume(
    run: RunState,
    claim: Claim,
    identity: str,
    *,
    alpha: float | None,
    budget: int | None,
    ledger: Ledger | None,
    class_map: ClassMap | None = None,
    view: str = "plain",
) -> Registration:
    """Take up a run where it was interrupted; nothing that was registered may change.

    Raises:
        UsageError: Another claim, endpoint, level, budget, class map or view than it was begun with.
        ClaimError: The ledger does not know it.
    """
    given = {"claim": claim.digest, "endpoint": identity, "alpha": alpha, "budget": budget, "view": view}
    for name, wanted in {**given, "registered": ledger is not None}.items():
        found = getattr(run, name)
        if wanted is not None and wanted != found:
            raise UsageError(
                f"the run to resume was begun with {name} {found!r}, not {wanted!r}; nothing may change now"
            )
    if run.class_map != _listed(class_map):
        raise UsageError("the run to resume was begun with another class map; nothing may change now")
    entry = None if ledger is None else ledger.resume(run.run_id)
    return Registration(run, ledger, entry, keeps_answers=claim.terms.copies is not None)


def _listed(class_map: ClassMap | None) -> list[int | None] | None:
    return (
        None if class_map is None else [answer if isinstance(answer, int) else None for answer in class_map.to_endpoint]
    )
