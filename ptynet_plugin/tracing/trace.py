"""Names the copies behind an endpoint, from the classes it answers; labels alone suffice.

The symbols are asked in an order that follows from the registered run alone, each once in the lifetime of (claim, endpoint): what
an earlier run asked here, a trace or a verification, is read from the claim's ledger and counts as it stands there. After
the answers every copy's evidence is weighed; copy i is accused in trace t when it reaches i (i + 1) t^2 pi^2 / (6 fwer).
The proof is in docs/tracing.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.claims.ledger import Ledger, Run
from ptynet_plugin.claims.terms import Terms
from ptynet_plugin.errors import UsageError
from ptynet_plugin.statistics.evasion import evasion_test
from ptynet_plugin.tracing.reading import read_answers, trace_order
from ptynet_plugin.tracing.result import Readback, TraceOutcome, TraceResult
from ptynet_plugin.tracing.scales import Presence, Scales
from ptynet_plugin.verification.asking import SymbolAsker, greet
from ptynet_plugin.verification.controls import EVASION_LEVEL, refused_pairs
from ptynet_plugin.verification.endpoint import Endpoint
from ptynet_plugin.verification.events import Interrupted
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import answer_kind
from ptynet_plugin.verification.run import RunState, SymbolOutcome

__all__ = ["DEFAULT_FWER", "MOST_COLLUDERS", "TraceStep", "require_classes", "require_traceable", "trace_endpoint"]

DEFAULT_FWER = 1e-6
MOST_COLLUDERS = 32


@dataclass(frozen=True)
class TraceStep:
    """How far a trace is.

    Attributes:
        symbols: Symbols asked.
        budget: Most of them.
        lead: log10 of the strongest copy's evidence over its threshold; it is named from 0 on.
    """

    symbols: int
    budget: int
    lead: float


def require_traceable(
    questions: Questions, *, copies: int, fwer: float, coalition: int, budget: int | None = None
) -> None:
    """Refuse a trace that cannot be, before it gets a number and before anything is asked.

    Raises:
        UsageError: The key did not make the claim, nobody got a copy yet, or an option is impossible.
    """
    terms = questions.claim.terms
    if not questions.owned:
        raise UsageError(
            "this key did not make the claim, so that its copies' words are not known; give the key that did"
        )
    if questions.class_map is not None:
        raise UsageError("a class map merges labels that tell copies apart; trace the endpoint without one")
    if copies < 1:
        raise UsageError("the registry knows no copy of this claim: nobody could be named; see `ptynet copies list`")
    if not 0.0 < fwer < 1.0:
        raise UsageError(f"--fwer is {fwer:g}, expected a probability between 0 and 1")
    if not 1 <= coalition <= MOST_COLLUDERS:
        raise UsageError(f"--coalition is {coalition}, expected 1 to {MOST_COLLUDERS}")
    if budget is not None and budget < terms.covers:
        raise UsageError(f"--budget is {budget}, one symbol alone needs {terms.covers} probes")


def require_classes(classes: int | None, terms: Terms) -> None:
    """Refuse an endpoint that tells other classes apart than the copies' labels are drawn from.

    Raises:
        UsageError: It does.
    """
    if classes not in (None, terms.classes):
        raise UsageError(
            f"the endpoint tells {classes} classes apart, a copy's labels are drawn from {terms.classes}: merged labels cannot "
            "be told from each other, so no copy can be named; `verify --class-map` still shows ownership"
        )


def trace_endpoint(
    endpoint: Endpoint,
    questions: Questions,
    tables: CopyTables,
    *,
    copies: int,
    trace: int,
    ledger: Ledger,
    fwer: float = DEFAULT_FWER,
    coalition: int = 4,
    budget: int | None = None,
    to_the_end: bool = False,
    on_step: Callable[[TraceStep], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> TraceResult:
    """Ask an endpoint until a copy is named, none can be, or the budget is used up.

    Args:
        endpoint: The suspect.
        questions: Of the key that made the claim.
        tables: What each copy answers.
        copies: Highest number ever given to a copy.
        trace: t, given by the registry before this call.
        ledger: The claim's open ledger.
        fwer: Probability with which any innocent may ever be named, over all copies and all traces of the claim.
        coalition: Largest coalition to look for.
        budget: Most probes; all symbols that tell copies apart where None.
        to_the_end: Go on after the first name, until every symbol is read.
        on_step: Told after every answer.
        stop: Asked between questions; True ends the run.
        now: The time, with zone.

    Raises:
        EndpointError: The endpoint could not be asked, or stopped answering.
        ClaimError: The claim's ledger cannot be used.
        UsageError: As `require_traceable`.
        Interrupted: `stop` said so; what was asked is kept and is read from the ledger by the next trace.
    """
    require_traceable(questions, copies=copies, fwer=fwer, coalition=coalition, budget=budget)
    terms = questions.claim.terms
    greet(endpoint, questions)
    most = budget or terms.covers * (len(terms.pairs) + len(terms.quick) + _controls(questions))
    entry, run = _registered(questions, endpoint.info().identity, ledger, trace=trace, fwer=fwer, budget=most, now=now)
    asker = _asker(endpoint, questions, ledger, entry, run, now=now)
    scales = Scales(tables, copies=copies, trace=trace, fwer=fwer, coalition=coalition)
    tracer = _Tracer(asker, questions, scales, entry, run)
    tracer.ask_all(stop=stop, on_step=on_step, to_the_end=to_the_end)
    run.finished = now().isoformat(timespec="milliseconds")
    verdict = tracer.verdict
    ledger.finish(entry, verdict=verdict, finished=run.finished)
    bits = read_answers(tables, tracer.answers).bits
    return TraceResult(
        verdict=verdict,
        trace=trace,
        fwer=fwer,
        coalition=coalition,
        run=run,
        info=endpoint.info(),
        answers=answer_kind(run.probes),
        reused=tracer.reused,
        bits=bits,
        log_evidence=scales.log_evidence,
        log_threshold=scales.log_threshold,
        accused=scales.accused,
        readback=Readback.of(scales.best, tables.code.word(scales.best), bits),
        mark_log10_p=tracer.presence.log10_p,
        excluded_share=tracer.presence.excluded_share,
        notes=tuple(_notes(tracer, coalition, tables.terms.coalition)),
        finished=run.finished,
    )


class _Tracer:
    """One trace under way.

    Attributes:
        answers: Symbol to class, of everything that was ever asked here.
        reused: How many of them were there before.
        presence: Whether the mark answers at all.
    """

    def __init__(self, asker: SymbolAsker, questions: Questions, scales: Scales, entry: Run, run: RunState) -> None:
        self._asker, self._scales, self._run = asker, scales, run
        self._terms = questions.claim.terms
        self.presence = Presence(self._terms)
        self.answers: dict[int, int | None] = {}
        for trial in entry.earlier:
            mapped = trial.null_rate is not None  # then the ledger holds a class of the endpoint's, not of the claim's
            self.answers[trial.symbol] = trial.facts.get("answer") if trial.answered and not mapped else None
            same_view = trial.asked_under.get("view", "plain") == run.view
            self.presence.observe(trial.symbol, trial.hit, trial.null_rate, same_view=same_view)
        self.reused = len(self.answers)
        closed = entry.disclosed | set(self.answers)
        self._order = [symbol for symbol in trace_order(questions.claim, entry.id) if symbol not in closed]
        self._singles = [symbol for symbol in questions.claim.order(entry.id) if symbol not in closed]
        self._most, self._asked = run.budget // run.covers, 0

    def ask_all(self, *, stop: Callable[[], bool], on_step: Callable[[TraceStep], None], to_the_end: bool) -> None:
        """Ask until a copy is named, none can be, or nothing is left to ask."""
        self._scales.weigh(self.answers)
        for symbol in self._order:
            if self._asked == self._most or (not to_the_end and (self._scales.accused or self.presence.absent)):
                break
            self._ask(symbol, stop)
            if symbol in self._terms.quick or self._scales.due(self._asked):
                self._scales.weigh(self.answers)
            on_step(TraceStep(self._asked, self._most, self._scales.lead))
        self._scales.weigh(self.answers)
        if not self._scales.accused and not self._terms.shows_by_pairs:
            self._look_for_the_mark(stop)

    @property
    def verdict(self) -> TraceOutcome:
        """What the answers come to."""
        if self._scales.accused:
            return "traced"
        return "no-customer" if self.presence.absent and not self.evades else "inconclusive"

    @property
    def evades(self) -> bool:
        """Whether probes are refused more often than the benign pictures beside them: what hides copies clears nobody."""
        return evasion_test(refused_pairs(self._run)).anytime_p_value <= EVASION_LEVEL

    def _look_for_the_mark(self, stop: Callable[[], bool]) -> None:
        """With few classes a pair tells nothing of ownership: ask symbols of one label whether any copy answers at all."""
        for symbol in self._singles:
            if self._asked == self._most or self.presence.settled:
                return
            self._ask(symbol, stop)

    def _ask(self, symbol: int, stop: Callable[[], bool]) -> None:
        if stop():
            raise Interrupted(f"interrupted after {self._asked} symbols; they are kept, and the next trace reads them")
        outcome = self._asker.ask(symbol)
        self._asker.require_life(
            if_broken="what was asked is kept in the claim's ledger",
            if_down="; what was asked is kept in the claim's ledger, trace again when it is up",
        )
        self._asked += 1
        self.answers[symbol] = outcome.answer
        self.presence.observe(symbol, outcome.hit)


def _registered(
    questions: Questions,
    identity: str,
    ledger: Ledger,
    *,
    trace: int,
    fwer: float,
    budget: int,
    now: Callable[[], datetime],
) -> tuple[Run, RunState]:
    """Register the run in the claim's ledger, beside the verifications of the same endpoint."""
    covers, started = questions.claim.terms.covers, now().isoformat(timespec="milliseconds")
    facts = {} if questions.view == "plain" else {"view": questions.view}
    entry = ledger.register(identity, alpha=fwer, budget=budget // covers, started=started, trace=trace, **facts)
    run = RunState(
        run_id=entry.id,
        claim=questions.claim.digest,
        endpoint=identity,
        alpha=fwer,
        budget=budget,
        number=entry.number,
        alpha_spent=entry.alpha,
        registered=True,
        covers=covers,
        started=started,
        view=questions.view,
    )
    return entry, run


def _asker(
    endpoint: Endpoint, questions: Questions, ledger: Ledger, entry: Run, run: RunState, *, now: Callable[[], datetime]
) -> SymbolAsker:
    """Ask into the claim's ledger; only a symbol that shows ownership is a hit there, for `verify` reads it too."""

    def note(outcome: SymbolOutcome) -> None:
        owned = outcome.hit and outcome.symbol in questions.claim.terms.ownership
        ledger.answer(entry, outcome.symbol, hit=owned, answer=outcome.answer)

    return SymbolAsker(endpoint, questions, run, spend=lambda symbol: ledger.ask(entry, symbol), note=note, now=now)


def _controls(questions: Questions) -> int:
    terms = questions.claim.terms
    return 0 if terms.shows_by_pairs else len(terms.singles)


def _notes(tracer: _Tracer, coalition: int, made_for: int) -> list[str]:
    notes = []
    if tracer.evades:
        notes.append(
            "probes are refused where benign pictures are answered: a filter may hide a copy, and nobody is cleared"
        )
    if tracer.reused:
        notes.append(
            f"{tracer.reused} symbols were asked at this endpoint before; their answers are read from the claim's ledger"
        )
    if coalition > made_for:
        notes.append(f"the code was made for {made_for} colluders; looking for {coalition} names a smaller group later")
    return notes
