"""Runs attacks against one artefact and measures what is left: of the model, and of the mark.

An attack has succeeded, by the rule of Lukas et al. ("SoK: How Robust is Image Classification Deep Neural Network
Watermarking?", IEEE S&P 2022), if the mark is lost and the model lost at most five points of accuracy. So every
attack ends in one of:

    survived        the mark is shown
    mark-lost       it is not, and the model is still worth having: the thief won; or the attack reached an aim of its own
    model-lost      it is not, and neither is the model
    attack-failed   the attack crashed, or made something that cannot be asked: nothing is known, and nothing is claimed
    refused         it does not apply to this archive

Without true labels accuracy is agreement with the stolen model on procedural covers, which real pictures may not follow: the
model then never counts as lost, and every mark that is not shown is a mark lost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Heading, Outcome, Share
from model_store_tools.audit.engines import agreement
from model_store_tools.audit.shares import Shares
from ptynet_plugin.errors import PtynetError
from ptynet_plugin.verification.result import VerificationResult

__all__ = ["TOLERATED_LOSS", "Attempt", "Evidence", "Result", "Row", "attempt", "evidence_of", "judge", "run_suite"]

TOLERATED_LOSS = 0.05
"""Of accuracy, at most: what a thief loses more, he has not stolen."""

LONGEST_REASON = 300

Result = Literal["survived", "mark-lost", "model-lost", "attack-failed", "refused"]
Verify = Callable[[Artefact], VerificationResult]
Counter = Callable[[Artefact, str], VerificationResult]
"""Asks under a view, see `Attack.view`."""


@dataclass(frozen=True)
class Attempt:
    """An attack that was carried out, or could not be.

    Attributes:
        outcome: What it made; None where it failed.
        seconds: What it took, by the clock.
        processor: What it took of processors: on a busy machine less than by the clock, with several threads more.
        failure: Why it failed; "" where it did not.
        refused: Whether it said itself that it does not apply.
    """

    outcome: Outcome | None
    seconds: float
    processor: float
    failure: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Evidence:
    """What `verify` said of an artefact.

    Attributes:
        verdict: As `VerificationResult.verdict`.
        log10_p: Decimal logarithm of the anytime-valid p-value.
        queries: Probes sent.
        hits: Of the symbols asked.
    """

    verdict: str
    log10_p: float
    queries: int
    hits: int


@dataclass(frozen=True)
class Row:
    """One attack with everything measured.

    Attributes:
        attack: Its name.
        heading: Its part of the table.
        source: Paper or tool.
        promised: Whether the mark is promised to be shown afterwards.
        result: See the module.
        accuracy: On held-out pictures after the attack; None where it could not be measured.
        kept: The same over the accuracy before.
        evidence: What `verify` said; None where nothing could be asked.
        seconds: The attacker's time, by the clock.
        processor: Seconds of processors in it.
        pictures: The attacker's pictures.
        note: The attack's own, or why it failed.
        answer: What the owner can do about it.
    """

    attack: str
    heading: Heading
    source: str
    promised: bool
    result: Result
    accuracy: float | None
    kept: float | None
    evidence: Evidence | None
    seconds: float
    processor: float
    pictures: int
    note: str
    answer: str


def run_suite(
    stolen: Artefact,
    attacks: Iterable[Attack],
    shares: Shares,
    verify: Verify,
    *,
    counter: Counter | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda name: None,
) -> Iterator[Row]:
    """Run attacks one after the other, each in a scratch folder of its own.

    Args:
        stolen: What was stolen.
        attacks: Which.
        shares: The thief's pictures and the held-out ones.
        verify: Asks an artefact for the mark, see `Rehearsal.verify`.
        counter: Asks under an attack's own view what hides the mark from plain questions.
        seed: For all randomness of the attacks.
        tell: Called with the name of the attack about to run.

    Yields:
        One row per attack.
    """
    before = agreement(stolen, shares.held_out.pictures, shares.held_out.labels)
    for attack in attacks:
        tell(attack.name)
        with tempfile.TemporaryDirectory(prefix="ptynet-audit-") as folder:
            tried = attempt(attack, stolen, shares.thief, folder=Path(folder), seed=seed)
            yield judge(attack, tried, shares.held_out, verify, before=before, counter=counter)


def attempt(attack: Attack, stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Attempt:
    """Carry one attack out; whatever goes wrong in it is written down, not raised.

    Args:
        attack: Which.
        stolen: What was stolen.
        share: The thief's pictures.
        folder: Where it may write; the outcome's model lies there and is gone when the folder is.
        seed: Its only randomness.
    """
    started, worked = time.perf_counter(), time.process_time()
    outcome, failure, refused = None, "", False
    try:
        outcome = attack.run(stolen, share, folder=folder, seed=seed)
    except AttackRefused as error:
        failure, refused = _reason(error), True
    except Exception as error:  # noqa: BLE001 -- an attack that crashes is a row of the table, see the module
        failure = _reason(error)
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    return Attempt(outcome, seconds, processor, failure, refused)


def judge(
    attack: Attack, tried: Attempt, held_out: Share, verify: Verify, *, before: float, counter: Counter | None = None
) -> Row:
    """Measure what an attempt left.

    Args:
        attack: Which it was.
        tried: What came of it.
        held_out: Pictures on which accuracy is measured.
        verify: Asks an artefact for the mark.
        before: Accuracy of the stolen artefact on the same pictures.
        counter: As for `run_suite`; what it says goes into the note, the result stays that of `verify`.
    """
    if tried.outcome is None:
        return _row(attack, tried, "refused" if tried.refused else "attack-failed", note=tried.failure)
    outcome = tried.outcome
    try:
        accuracy = agreement(outcome.artefact, held_out.pictures, held_out.labels)
        evidence = evidence_of(verify(outcome.artefact))
        note = outcome.note or ("" if evidence.verdict == "shown" else _countered(attack, outcome.artefact, counter))
    except Exception as error:  # noqa: BLE001 -- what cannot be asked proves nothing about the mark
        return _row(attack, tried, "attack-failed", note=f"what it made cannot be asked: {_reason(error)}")
    kept = accuracy / before if before else None
    lost = before - accuracy if held_out.true else 0.0
    result = "mark-lost" if outcome.won else _result(evidence, lost=lost)
    return _row(attack, tried, result, accuracy=accuracy, kept=kept, evidence=evidence, note=note)


def _countered(attack: Attack, artefact: Artefact, counter: Counter | None) -> str:
    if not attack.view or counter is None:
        return ""
    answered = counter(artefact, attack.view)
    return f"with --view {attack.view}: {answered.verdict}, {answered.queries} queries"


def _result(evidence: Evidence, *, lost: float) -> Result:
    if evidence.verdict == "shown":
        return "survived"
    return "mark-lost" if lost <= TOLERATED_LOSS + 1e-9 else "model-lost"


def evidence_of(result: VerificationResult) -> Evidence:
    """Keep what a table needs of a verdict."""
    return Evidence(result.verdict, result.log10_p, result.queries, result.hits)


def _row(
    attack: Attack,
    tried: Attempt,
    result: Result,
    *,
    note: str,
    accuracy: float | None = None,
    kept: float | None = None,
    evidence: Evidence | None = None,
) -> Row:
    return Row(
        attack=attack.name,
        heading=attack.heading,
        source=attack.source,
        promised=attack.promised,
        result=result,
        accuracy=accuracy,
        kept=kept,
        evidence=evidence,
        seconds=tried.seconds,
        processor=tried.processor,
        pictures=tried.outcome.pictures if tried.outcome else 0,
        note=note,
        answer=attack.answer,
    )


def _reason(error: Exception) -> str:
    told = " ".join(str(error).split()) or type(error).__name__
    told = told if isinstance(error, PtynetError) else f"{type(error).__name__}: {told}"
    return told if len(told) <= LONGEST_REASON else told[:LONGEST_REASON] + "..."
