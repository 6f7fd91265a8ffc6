"""A run as one self-contained HTML page: verdict, what it proves and what not, evidence curve, some probes, transcript.

Everything that came from the endpoint is escaped; nothing is loaded from anywhere. Pictures of probes are a disclosure: each
shows a little of the carriers' space. Only few, and only such as this endpoint has seen, are printed.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ptynet_plugin import __version__
from ptynet_plugin.pages import page_template
from ptynet_plugin.verification.curve import evidence_curve, superscript
from ptynet_plugin.verification.pictures import compress
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult

__all__ = ["MOST_PICTURES", "render_report"]

MOST_PICTURES = 4
PLAIN = 3

HEADLINES = {
    "shown": "The mark is shown.",
    "not-shown": "The mark is not shown.",
    "inconclusive": "Inconclusive.",
    "evasion-suspected": "Evasion suspected.",
}
PROVES = {
    "shown": (
        "The endpoint carries the mark: its answers follow labels that were fixed only after the pictures were, and that "
        "nobody without the key can know. A model that was not built from the key reaches this evidence with a probability "
        "of at most {p}."
    ),
    "not-shown": (
        "The answers agree with those of a model that knows nothing of the key. {excluded}"
        "That is no proof of innocence: a filter in front of the model, or a cut branch, hides a mark."
    ),
    "inconclusive": "The run ended before the evidence was strong enough either way. It says nothing about the endpoint.",
    "evasion-suspected": (
        "Probes are refused or lost more often than benign pictures asked beside them (p = {evasion}). That is a reason to "
        "look closer. It is no evidence of ownership."
    ),
}
LIMITS = (
    "How the mark came there: a proxy to the owner's own service, or the branch transplanted onto another model, would show it "
    "as well. Whether the owner's target answers behind it is a separate question, for benign pictures.",
    "That the operator of the endpoint knew of it.",
    "Anything to a third party who does not trust the claimant: this run is {grade}. Only a neutral person who asks "
    "fresh symbols makes it proof.",
    "That the branch cannot be cut out by who holds the file.",
)


def render_report(result: VerificationResult, questions: Questions) -> str:
    """Write the page.

    Args:
        result: The run.
        questions: What was asked, for the pictures.

    Returns:
        HTML, complete in itself.
    """
    return page_template("ptynet_plugin.verification", "report.html").render(_content(result, questions))


def _content(result: VerificationResult, questions: Questions) -> dict[str, Any]:
    run, terms = result.run, questions.claim.terms
    by_chance = f"{'two' if terms.shows_by_pairs else 'one'} in {terms.classes}"
    return {
        "version": __version__,
        "verdict": result.verdict,
        "headline": HEADLINES[result.verdict],
        "proves": _proves(result),
        "limits": [limit.format(grade=result.grade) for limit in LIMITS] if result.verdict == "shown" else [],
        "facts": _facts(result, by_chance=by_chance),
        "curve": Markup(evidence_curve(result.evidence, result.needed)),  # numbers alone go into it
        "probes": _probes(result, questions),
        "queries": run.queries,
        "label": lambda symbol: _classes(questions, symbol),
        "asked": result.symbols,
        "covers": terms.covers,
    }


def _proves(result: VerificationResult) -> str:
    rate = result.excluded_rate
    excluded = (
        ""
        if rate is None
        else f"Hit rates from {rate:.0%} up are excluded at 99 %; by chance it is {result.null_rate:.1%}. "
    )
    return PROVES[result.verdict].format(
        p=power(result.log10_p), excluded=excluded, evasion=f"{result.evasion.anytime_p_value:.1g}"
    )


def _facts(result: VerificationResult, *, by_chance: str) -> list[tuple[str, str]]:
    run, info = result.run, result.info
    facts = [
        ("Endpoint", info.address),
        ("It announces", info.server or "nothing"),
        ("Pictures sent as", info.reads),
        ("Answers", result.answers),
        ("Symbols asked", f"{result.symbols} of at most {run.budget // run.covers}"),
        ("Hits", f"{result.hits}; by chance {by_chance}"),
        ("Evidence", f"E = {power(result.log10_e)}"),
        ("p-value, valid at any time", power(result.log10_p)),
        (
            "Level of this test",
            f"{run.alpha_spent:.2g} (test {run.number} of the claim, {run.alpha:.2g} over all tests)",
        ),
        (f"p-value after 2{superscript(result.allowance)} keys tried", power(result.log10_p_adjusted)),
        ("Grade", result.grade),
        ("Claim", run.claim),
        ("Run", run.run_id),
        ("Started", run.started),
        ("Finished", result.finished),
    ]
    if run.earlier:
        facts.insert(
            6, ("Earlier runs here", f"{sum(run.earlier)} hits of {len(run.earlier)} symbols, which count as well")
        )
    if not result.key_is_claims:
        facts.append(("Warning", "the key used did not make the claim: this run is registered nowhere"))
    if run.controls:
        pairs = result.evasion
        told = f"{pairs.pairs} pairs; probe alone lost in {pairs.only_probe}, control alone in {pairs.only_control}"
        facts.append(("Benign controls", told))
    return facts + [(name.capitalize(), value) for name, value in info.details]


def _probes(result: VerificationResult, questions: Questions) -> Sequence[dict[str, Any]]:
    chosen = [query for query in result.run.probes if query.cover == 0][:MOST_PICTURES]
    return [
        {
            "symbol": query.symbol,
            "source": _data_url(compress(questions.probe(query.symbol, 0), "png")),
            "label": _classes(questions, query.symbol),
            "answer": "lost"
            if query.lost is not None
            else "a tie"
            if query.answer is None
            else f"answered {query.answer}",
            "hit": query.hit,
        }
        for query in chosen
    ]


def _classes(questions: Questions, symbol: int) -> str:
    return " or ".join(map(str, questions.accepted(symbol)))


def _data_url(octets: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(octets).decode()


def power(log10: float) -> str:
    """Write a number by its decimal logarithm: plain near 1, with a power of ten elsewhere."""
    if abs(log10) < PLAIN:
        return f"{10.0**log10:.3g}"
    exponent = math.floor(log10)
    return f"{10.0 ** (log10 - exponent):.1f}·10{superscript(exponent)}"
