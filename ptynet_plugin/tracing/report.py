"""A trace as one self-contained HTML page: who is named, what that proves and what not, every copy's evidence, the bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ptynet_plugin import __version__
from ptynet_plugin.pages import page_template
from ptynet_plugin.tracing.plot import evidence_of_copies
from ptynet_plugin.tracing.reading import bits_as_text
from ptynet_plugin.tracing.result import CopyFacts, TraceResult
from ptynet_plugin.verification.report import power

__all__ = ["render_trace"]

HEADLINES = {
    "traced": "Traced to {who}.",
    "no-customer": "No customer's copy answers.",
    "inconclusive": "Nobody is named.",
}
PROVES = {
    "traced": (
        "The answers come from {copies} issued under {numbers}, alone or together with others. The probability that "
        "any innocent customer is ever named, over all copies and all traces of this claim, is at most {fwer}, whatever "
        "the makers of the endpoint did."
    ),
    "no-customer": (
        "The answers exclude at 99 % that a copy of this claim answers {share:.0%} of the probes or more. That is no proof of "
        "innocence: a filter in front of the model, or a cut branch, hides a copy."
    ),
    "inconclusive": (
        "No copy's evidence reached its threshold. {mark}A coalition larger than the code is made for, few answers, or somebody "
        "without a copy look like this; naming the strongest nevertheless would be wrong as often as not."
    ),
}
LIMITS = (
    "That the customer leaked it: his machine may have been broken into. What is shown is whose copy it is.",
    "Anything to somebody who does not trust the owner: whoever holds the key can make any customer's copy. Only a certificate "
    "that the customer countersigned when he got it, with the archive's digest, makes this more than internal evidence.",
    "That those who are not named had no part: a coalition is caught by one of its members at least, not by all.",
)


def render_trace(result: TraceResult, facts: Mapping[int, CopyFacts]) -> str:
    """Write the page.

    Args:
        result: The trace.
        facts: What the registry says, for the accused and the strongest copies at least.

    Returns:
        HTML, complete in itself.
    """
    return page_template("ptynet_plugin.tracing", "trace.html").render(_content(result, facts))


def _content(result: TraceResult, facts: Mapping[int, CopyFacts]) -> dict[str, Any]:
    plot = evidence_of_copies(result.log_evidence, result.log_threshold, result.accused)
    return {
        "version": __version__,
        "verdict": result.verdict,
        "headline": _headline(result, facts),
        "proves": _proves(result),
        "limits": LIMITS if result.verdict == "traced" else (),
        "plot": Markup(plot),  # numbers alone go into it
        "rows": [_row(copy, result, facts) for copy in dict.fromkeys([*result.accused, *result.strongest()])],
        "facts": _facts(result),
        "bits": bits_as_text(result.bits),
        "readback": result.readback,
        "notes": result.notes,
        "copies": result.copies,
    }


def _headline(result: TraceResult, facts: Mapping[int, CopyFacts]) -> str:
    who = " and ".join(_name(copy, facts) for copy in result.accused[:3])
    return HEADLINES[result.verdict].format(who=who)


def _name(copy: int, facts: Mapping[int, CopyFacts]) -> str:
    known = facts.get(copy)
    return f"copy {copy}" if known is None else f"{known.customer} (copy {copy})"


def _proves(result: TraceResult) -> str:
    mark = (
        "" if result.mark_log10_p is None else f"That the mark itself is there has p = {power(result.mark_log10_p)}. "
    )
    many = len(result.accused) > 1
    return PROVES[result.verdict].format(
        copies="the copies" if many else "the copy",
        numbers=f"the number{'s' if many else ''} {' and '.join(map(str, result.accused))}",
        fwer=f"{result.fwer:g}",
        share=result.excluded_share or 0.0,
        mark=mark,
    )


def _row(copy: int, result: TraceResult, facts: Mapping[int, CopyFacts]) -> dict[str, Any]:
    known = facts.get(copy)
    return {
        "number": copy,
        "customer": "not in the registry" if known is None else known.customer,
        "revoked": known is not None and known.revoked_at is not None,
        "named": copy in result.accused,
        "evidence": power(result.log10_e(copy)),
        "threshold": power(result.log10_threshold(copy)),
    }


def _facts(result: TraceResult) -> list[tuple[str, str]]:
    run, info = result.run, result.info
    mark = "not known" if result.mark_log10_p is None else f"p = {power(result.mark_log10_p)}"
    return [
        ("Endpoint", info.address),
        ("It announces", info.server or "nothing"),
        ("Answers", result.answers),
        ("Symbols asked", f"{result.symbols} now, {result.reused} read from the ledger"),
        ("Probes sent", str(result.queries)),
        ("Shown", run.view),
        ("Copies weighed", f"{result.copies:,}, revoked ones among them"),
        ("Code", f"{len(result.bits)} positions; coalitions up to {result.coalition} are looked for"),
        ("False accusations", f"at most {result.fwer:g} over all copies and traces"),
        ("Trace", f"number {result.trace} of this claim"),
        ("The mark itself", mark),
        ("Claim", run.claim),
        ("Run", run.run_id),
        ("Started", run.started),
        ("Finished", result.finished),
    ]
