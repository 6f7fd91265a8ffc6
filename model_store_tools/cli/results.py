"""What `ptynet verify` leaves behind: a short table, JSON, an HTML report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import typer

from model_store_tools.cli.outputs import write_whole
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.report import render_report
from ptynet_plugin.verification.result import VerificationResult

__all__ = ["print_result", "write_json", "write_report"]

MEANING = {
    "shown": "the endpoint carries the mark",
    "not-shown": "no sign of the mark, and enough was asked to see it",
    "inconclusive": "neither shown nor excluded within this run",
    "evasion-suspected": "probes are refused more often than benign pictures; this is no proof of ownership",
}
LARGEST_EXPONENT = 300


def print_result(result: VerificationResult, claim: Claim, *, to_stderr: bool = False) -> None:
    """Print the verdict and what it rests on, one fact a line."""
    typer.echo(f"{result.verdict.upper()}: {MEANING[result.verdict]}", err=to_stderr)
    for name, value in _facts(result, claim):
        typer.echo(f"  {name:<10} {value}", err=to_stderr)


def write_json(path: Path | None, result: VerificationResult) -> None:
    """Write the result as JSON, to standard output where no path is given."""
    text = json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"
    if path is None:
        typer.echo(text, nl=False)
    else:
        write_whole(path, text)


def write_report(path: Path, result: VerificationResult, questions: Questions) -> None:
    """Write the HTML report."""
    write_whole(path, render_report(result, questions))


def _facts(result: VerificationResult, claim: Claim) -> Iterator[tuple[str, str]]:
    run, terms = result.run, claim.terms
    by_chance = f"{2 if terms.shows_by_pairs else 1} in {terms.classes}"
    yield "endpoint", f"{result.info.address}" + (f" ({result.info.server})" if result.info.server else "")
    yield (
        "asked",
        f"{result.symbols} symbols, {result.hits} hits; by chance {by_chance}; {result.answers}",
    )
    if run.earlier:
        yield "before", f"{len(run.earlier)} symbols, {sum(run.earlier)} hits in earlier runs here count as well"
    level = f"level {run.alpha_spent:.2g}, test {run.number} of this claim"
    yield "evidence", f"E = {_number(result.log10_e)}, p = {_number(result.log10_p)} ({level})"
    yield "adjusted", f"p = {_number(result.log10_p_adjusted)} after 2^{result.allowance} keys that may have been tried"
    if result.excluded_rate is not None and result.verdict != "shown":
        yield "excluded", f"hit rates from {result.excluded_rate:.0%} up, at 99 %"
    lost = sum(query.lost is not None for query in run.probes)
    if lost:
        alone = result.evasion
        yield (
            "lost",
            f"{lost} probes; of {alone.pairs} pairs probe alone {alone.only_probe}, control alone {alone.only_control}",
        )
    yield "grade", result.grade
    yield "run", run.run_id


def _number(log10: float) -> str:
    """Write a number by its decimal logarithm, beyond the range of a float too."""
    return f"{10.0**log10:.2g}" if abs(log10) < LARGEST_EXPONENT else f"1e{log10:+.0f}"
