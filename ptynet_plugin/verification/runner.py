"""Runs the protocol against an endpoint, from the first benign question to the verdict.

The order follows from a run id that the claim's ledger registered before; each symbol is asked once in the lifetime of claim and
endpoint; several covers of a symbol are one majority vote; what is lost is a miss. Before the registration one benign picture
makes sure that somebody answers, in a form that can be read: what fails there costs nothing.

Benign controls come in once a probe got no class: from then on every probe is paired with a benign picture, the two in an order
drawn by lot. If the benign ones are lost as well the endpoint is down, and the run ends without a verdict, to be resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.errors import ClaimError, Refused
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.statistics.decision import MOST_OF_A_CLAIM, SequentialTest
from ptynet_plugin.statistics.evasion import EvasionResult, evasion_test
from ptynet_plugin.verification.asking import SymbolAsker, greet
from ptynet_plugin.verification.controls import EVASION_LEVEL, refused_pairs
from ptynet_plugin.verification.endpoint import Endpoint, Picture
from ptynet_plugin.verification.events import Interrupted, Step, Witnessed
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.registration import DEFAULT_ALPHA, DEFAULT_BUDGET, Registration, begin, resume
from ptynet_plugin.verification.result import Outcome, VerificationResult, answer_kind
from ptynet_plugin.verification.run import RunState, SymbolOutcome, read_run, symbol_outcomes, write_run

__all__ = [
    "DEFAULT_ALPHA",
    "DEFAULT_BUDGET",
    "EVASION_LEVEL",
    "Interrupted",
    "Step",
    "Witnessed",
    "run_protocol",
    "verify",
]

FILTER_STATUS = (403, 422)
"""With which a filter of inputs turns a picture away."""


def verify(
    endpoint: Endpoint,
    *,
    claim: Claim,
    key: OwnerKey,
    spec: InputSpec | None = None,
    pictures: Sequence[Picture] | None = None,
    **options: Any,
) -> VerificationResult:
    """Ask an endpoint whether it carries the mark of a claim: `run_protocol` with the questions of a key.

    Args:
        endpoint: The suspect.
        claim: What was committed.
        key: The owner's key.
        spec: What the suspect reads, where that differs from the claim's.
        pictures: The owner's own covers, as at packaging.
        **options: Those of `run_protocol`.
    """
    return run_protocol(endpoint, Questions(claim, key, spec=spec, pictures=pictures), **options)


def run_protocol(
    endpoint: Endpoint,
    questions: Questions,
    *,
    alpha: float | None = None,
    budget: int | None = None,
    ledger: Ledger | None = None,
    state: Path | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_registered: Callable[[RunState], None] = lambda run: None,
    draw_beacon: Callable[[RunState], bytes] = lambda run: b"",
    allowance: int = 0,
    witness: Callable[[Witnessed], None] = lambda witnessed: None,
    stop: Callable[[], bool] = lambda: False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> VerificationResult:
    """Ask an endpoint until a verdict is reached.

    Args:
        endpoint: The suspect.
        questions: Of the owner's key under the claim. Those of a key that did not make the claim are not registered and can
            at best be inconclusive.
        alpha: Level over all tests of the claim, in (0, 1); `DEFAULT_ALPHA`, or that of the run resumed.
        budget: Most probes of this run; `DEFAULT_BUDGET`, or that of the run resumed.
        ledger: The claim's open ledger; None makes an unregistered rehearsal.
        state: File to keep the run in after every step; one that exists is resumed. A folder gets a file named by the
            run's id.
        on_step: Told after every symbol.
        on_registered: Told once, before the first probe.
        draw_beacon: Called once in the lifetime of a run, between its registration and the drawing of its order; gives the
            octets of a public beacon round after the registration, or nothing.
        allowance: Bits by which the evidence, of all runs and of this one alone, must exceed what `alpha` needs before the run
            ends early: a claim is decided so. The verdict is decided on the raw value all the same.
        witness: Handed every question with its exact bytes.
        stop: Asked between questions; True ends the run.
        now: The time, with zone.

    Returns:
        The verdict with all it rests on.

    Raises:
        EndpointError: The endpoint could not be asked at all, stopped answering, or answers no usable scores.
        ClaimError: The claim cannot be used, or all its symbols were asked at this endpoint.
        UsageError: An option is impossible or contradicts the run resumed.
        Interrupted: `stop` said so.
    """
    claim = questions.claim
    ledger = ledger if questions.owned else None
    resumed = read_run(state) if state is not None and state.is_file() else None
    if resumed is None or resumed.finished is None:
        _greet(endpoint, questions)
    identity = endpoint.info().identity
    terms: _Terms = {
        "alpha": alpha,
        "budget": budget,
        "ledger": ledger,
        "class_map": questions.class_map,
        "view": questions.view,
    }
    registration = resume(resumed, claim, identity, **terms) if resumed else begin(claim, identity, **terms, now=now)
    if resumed is None:
        registration.run.allowance = allowance
        registration.run.beacon = draw_beacon(registration.run).hex()
    if state is not None and state.is_dir():
        state = state / f"{registration.run.run_id}.json"
    runner = _Runner(endpoint, questions, registration, state=state, on_step=on_step, witness=witness, now=now)
    on_registered(registration.run)
    return runner.to_verdict(stop)


def _greet(endpoint: Endpoint, questions: Questions) -> None:
    """Make sure that somebody answers.

    Raises:
        EndpointError: Nobody does; a filter of strangers is named as a possible reason where procedural covers were asked.
    """
    try:
        greet(endpoint, questions)
    except Refused as error:
        if error.status not in FILTER_STATUS or questions.brings_benign:
            raise
        raise Refused(
            f"{error}; that was a made-up picture: if the endpoint filters its inputs, ask ordinary ones with --benign DIR",
            status=error.status,
        ) from error


class _Terms(TypedDict):
    """What registration fixes, and resuming may not change."""

    alpha: float | None
    budget: int | None
    ledger: Ledger | None
    class_map: ClassMap | None
    view: str


class _Runner:
    """One run under way."""

    def __init__(
        self,
        endpoint: Endpoint,
        questions: Questions,
        registration: Registration,
        *,
        state: Path | None,
        on_step: Callable[[Step], None],
        witness: Callable[[Witnessed], None],
        now: Callable[[], datetime],
    ) -> None:
        self._endpoint, self._questions, self._registration = endpoint, questions, registration
        self._state, self._on_step, self._now = state, on_step, now
        self._run = run = registration.run
        self._evidence: list[float] = []
        self._asker = SymbolAsker(
            endpoint,
            questions,
            run,
            spend=registration.ask,
            note=self._note,
            now=now,
            keep=self._save,
            witness=witness,
        )
        drawn = questions.order(run.run_id, beacon=bytes.fromhex(run.beacon))
        self._order = [symbol for symbol in drawn if symbol not in registration.spent_before]
        most = min(run.budget // run.covers, len(self._order))
        if most == 0:
            raise ClaimError(
                f"every symbol of the claim was asked at {run.endpoint} already, and a symbol counts once; commit a claim "
                "of another epoch"
            )
        self._test = SequentialTest(questions.chance, alpha=run.alpha_spent, budget=most)
        for hit, rate in zip(run.earlier, run.earlier_null_rates, strict=True):
            self._test.evidence.update(hit, rate)
        registration.reconcile(questions.null_rate)
        self._save()

    def to_verdict(self, stop: Callable[[], bool]) -> VerificationResult:
        """Ask until there is a verdict."""
        for outcome in symbol_outcomes(self._run):
            self._observe(outcome)
        asked = {query.symbol for query in self._run.probes}
        for symbol in (symbol for symbol in self._order if symbol not in asked):
            if self._is_decided():
                break
            if stop():
                raise Interrupted(f"interrupted after {self._test.asked} symbols, no verdict yet")
            self._ask_symbol(symbol)
        return self._result()

    def _is_decided(self) -> bool:
        test, allowance = self._test, self._run.allowance
        if test.verdict != "shown" or test.remaining <= 0 or allowance == 0:
            return test.verdict is not None
        needed = math.log10(min(self._run.alpha_spent, MOST_OF_A_CLAIM))
        return max(test.log10_p_adjusted(allowance), test.log10_p_of_fresh(allowance)) <= needed

    def _ask_symbol(self, symbol: int) -> None:
        self._observe(self._asker.ask(symbol))
        asked = self._test.asked
        self._asker.require_life(
            if_broken=f"the run stands at {asked} symbols and can be resumed",
            if_down=f": {asked} symbols were asked, the lost ones count as misses; resume when it is up",
        )

    def _note(self, outcome: SymbolOutcome) -> None:
        self._registration.answer(outcome, self._questions.null_rate(outcome.answer))

    def _observe(self, outcome: SymbolOutcome) -> None:
        self._test.observe(outcome.hit, null_rate=self._questions.null_rate(outcome.answer))
        self._evidence.append(self._test.evidence.log10_e)
        needed = -math.log10(self._run.alpha_spent)
        self._on_step(Step(self._test.asked, self._test.hits, self._test.budget, self._evidence[-1], needed))

    def _save(self) -> None:
        if self._state is not None:
            write_run(self._state, self._run)

    def _result(self) -> VerificationResult:
        test, claim = self._test, self._questions.claim
        evasion = evasion_test(refused_pairs(self._run))
        verdict = self._verdict(evasion)
        if self._run.finished is None:
            self._run.finished = self._now().isoformat(timespec="milliseconds")
            self._save()
            self._registration.finish(verdict, self._run.finished)
        return VerificationResult(
            verdict=verdict,
            run=self._run,
            info=self._endpoint.info(),
            answers=answer_kind(self._run.probes),
            null_rate=test.null_rate,
            log10_e=test.evidence.log10_e,
            log10_p=test.log10_p,
            log10_p_adjusted=test.log10_p_adjusted(claim.allowance),
            allowance=claim.allowance,
            excluded_rate=test.excluded_rate,
            symbols=test.asked,
            hits=test.hits,
            evidence=tuple(self._evidence),
            evasion=evasion,
            grade=_grade(claim, self._run),
            key_is_claims=self._questions.owned,
            finished=self._run.finished,
        )

    def _verdict(self, evasion: EvasionResult) -> Outcome:
        verdict = self._test.verdict or "inconclusive"
        if verdict == "shown":
            return "shown" if self._questions.owned else "inconclusive"
        return "evasion-suspected" if evasion.anytime_p_value <= EVASION_LEVEL else verdict


def _grade(claim: Claim, run: RunState) -> str:
    if not run.registered:
        return "rehearsal: not registered, no evidence"
    return "party evidence, unstamped" if claim.seal is None else "party evidence"
