"""Does the verdict follow from the answers? Both are recomputed: what the run decided on its raw p-value, and what the claim
decides on the adjusted one, of all answers and of the opened ones alone: what earlier runs asked is the claimant's word, and
may weaken his evidence but not carry it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.evidence.bundle import Bundle
from ptynet_plugin.evidence.check_symbols import Outcomes
from ptynet_plugin.statistics.decision import (
    ALLOWANCE_STAMPED,
    ALLOWANCE_STAMPED_WITH_BEACON,
    ALLOWANCE_UNSTAMPED,
    MOST_OF_A_CLAIM,
    SequentialTest,
    alpha_of_test,
)
from ptynet_plugin.statistics.evasion import evasion_test
from ptynet_plugin.verification.controls import EVASION_LEVEL

__all__ = ["Decision", "check_verdict"]

VERDICTS = ("shown", "not-shown", "inconclusive", "evasion-suspected")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """What a bundle's answers come to.

    Attributes:
        verdict: What the claim decides, on the adjusted p-value.
        raw: What the run decided, on the raw one.
        log10_e: Evidence at the end.
        log10_p: Decimal logarithm of the anytime-valid p-value.
        log10_p_adjusted: The same after 2^allowance keys that may have been tried.
        log10_p_opened: The adjusted p-value of the answers that are opened here, without those of earlier runs.
        allowance: Bits.
        level: Decimal logarithm of the level that this test may spend, at most `MOST_OF_A_CLAIM`.
    """

    verdict: str
    raw: str
    log10_e: float
    log10_p: float
    log10_p_adjusted: float
    log10_p_opened: float
    allowance: int
    level: float


def check_verdict(bundle: Bundle, outcomes: Outcomes) -> Decision:
    """Recompute what was decided.

    Raises:
        IntegrityError: With the first number that does not follow from the answers.
    """
    head, last, questions = bundle.lines[0], bundle.lines[-1], bundle.lines[1:-1]
    alpha = alpha_of_test(float(head["alpha"]), head["number"])
    if not (0 < alpha < 1 and math.isclose(alpha, float(head["alpha_spent"]), rel_tol=1e-9)):
        raise IntegrityError(
            f"transcript.jsonl: test {head['number']} may spend {alpha:.3g} of alpha, not {head['alpha_spent']}"
        )
    earlier = [trial["hit"] is True for trial in head["earlier"]]
    test = SequentialTest(outcomes.null_rate, alpha=alpha, budget=max(1, len(outcomes.hits)), earlier=earlier)
    for hit in outcomes.hits:
        test.observe(hit)
    _check_raw(test, questions, last["verdict"])
    if (last["symbols"], last["hits"]) != (len(outcomes.hits), sum(outcomes.hits)):
        raise IntegrityError("transcript.jsonl: its counts are not those of its answers")
    allowance = _allowance(bundle)
    if last["allowance"] != allowance:
        raise IntegrityError(f"transcript.jsonl: its allowance is 2^{allowance}, not 2^{last['allowance']}")
    adjusted = test.log10_p_adjusted(allowance)
    told = {"log10_e": test.evidence.log10_e, "log10_p": test.log10_p, "log10_p_adjusted": adjusted}
    for name, value in told.items():
        if not math.isclose(float(last[name]), value, abs_tol=1e-6):
            raise IntegrityError(f"transcript.jsonl: its {name} is {value:.6g} by its answers, not {last[name]}")
    if bundle.predicate["verdict"] != last["verdict"]:
        raise IntegrityError("the signed statement: another verdict than the transcript")
    level, opened = math.log10(min(alpha, MOST_OF_A_CLAIM)), test.log10_p_of_fresh(allowance)
    falls_short = last["verdict"] == "shown" and max(adjusted, opened) > level + _ROUNDING
    verdict = "inconclusive" if falls_short else str(last["verdict"])
    return Decision(
        verdict, str(last["verdict"]), test.evidence.log10_e, test.log10_p, adjusted, opened, allowance, level
    )


def _check_raw(test: SequentialTest, questions: tuple[dict[str, Any], ...], said: str) -> None:
    shown = test.verdict == "shown"
    if shown != (said == "shown"):
        raise IntegrityError(f"transcript.jsonl: says {said}, the answers {'' if shown else 'do not '}show the mark")
    evades = not shown and evasion_test(_pairs(questions)).anytime_p_value <= EVASION_LEVEL
    if evades != (said == "evasion-suspected") or said not in VERDICTS:
        raise IntegrityError("transcript.jsonl: evasion is not what the controls say")


def _pairs(questions: tuple[dict[str, Any], ...]) -> list[tuple[bool, bool]]:
    asked = [line for line in questions if line["entry"] == "question"]
    probes = {q["symbol"]: q["answer"] is None for q in asked if not q["control"] and q["cover"] == 0}
    controls = (q for q in asked if q["control"] and q["symbol"] in probes)
    return [(probes[control["symbol"]], control["answer"] is None) for control in controls]


def _allowance(bundle: Bundle) -> int:
    if bundle.seal is None:
        return ALLOWANCE_UNSTAMPED
    dated = bundle.beacon is not None and bool(bundle.beacon.get("period"))  # its time is checked by `check_times`
    return ALLOWANCE_STAMPED_WITH_BEACON if dated else ALLOWANCE_STAMPED
