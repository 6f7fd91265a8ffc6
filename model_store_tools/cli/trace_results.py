"""What `ptynet trace` leaves behind: lines, JSON, a page, and the exit code of a verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from model_store_tools.cli.outputs import STDOUT, write_json, write_whole

if TYPE_CHECKING:
    from model_store_tools.registry import Copy
    from ptynet_plugin.tracing.result import TraceResult
    from ptynet_plugin.tracing.whitebox import TableReading

__all__ = ["EXIT_BY_VERDICT", "leave_reading", "leave_trace"]

EXIT_BY_VERDICT = {"traced": 0, "no-customer": 1, "inconclusive": 3}
MEANING = {
    "traced": "the answers come from these copies",
    "no-customer": "no copy answers there",
    "inconclusive": "no copy's evidence reaches its threshold; nobody is named",
}
TABLE_MEANING = {
    "traced": "the table in it is of these copies",
    "inconclusive": "a table of this key, and of no copy that is known; nobody is named",
}


def leave_trace(result: TraceResult, facts: Mapping[int, Copy], *, report: Path | None, json_file: str | None) -> None:
    """Write and print what a trace over the network found."""
    if report is not None:
        from ptynet_plugin.tracing.report import render_trace

        write_whole(report, render_trace(result, facts))
    if json_file is not None:
        write_json(json_file, json.dumps(result.to_json(facts), indent=2, allow_nan=False) + "\n")
    to_stderr = json_file == STDOUT
    typer.echo(f"{result.verdict.upper()}: {MEANING[result.verdict]}", err=to_stderr)
    for copy in result.accused:
        evidence = f"E = 10^{result.log10_e(copy):.1f} of 10^{result.log10_threshold(copy):.1f}"
        typer.echo(f"  {'named':<10} {_who(facts[copy])}: {evidence}", err=to_stderr)
    for name, value in _lines(result, facts):
        typer.echo(f"  {name:<10} {value}", err=to_stderr)


def leave_reading(
    reading: TableReading | None,
    facts: Mapping[int, Copy],
    path: Path,
    *,
    claim: str,
    fwer: float,
    json_file: str | None,
) -> int:
    """Write and print what the table of an archive says, and give the exit code."""
    from ptynet_plugin.tracing.whitebox import table_json

    if json_file is not None:
        value = table_json(reading, facts, where=str(path), claim=claim, fwer=fwer)
        write_json(json_file, json.dumps(value, indent=2, allow_nan=False) + "\n")
    to_stderr = json_file == STDOUT
    if reading is None:
        typer.echo(f"NO-CUSTOMER: {path} holds no table beside code words of this key", err=to_stderr)
        return EXIT_BY_VERDICT["no-customer"]
    typer.echo(f"{reading.verdict.upper()}: {TABLE_MEANING[reading.verdict]}", err=to_stderr)
    for copy in reading.accused:
        typer.echo(f"  {'named':<10} {_who(facts[copy])}", err=to_stderr)
    exact = f"{reading.matches} of {reading.compared} labels are copy {reading.best}'s"
    typer.echo(f"  {'table':<10} {exact}, p = 10^{reading.log10_p:.1f}", err=to_stderr)
    typer.echo(f"  {'adjusted':<10} p = 10^{reading.log10_p_adjusted:.1f} for all copies and traces", err=to_stderr)
    if reading.manifest_copy is not None:
        typer.echo(f"  {'manifest':<10} says copy {reading.manifest_copy}; anybody can write one", err=to_stderr)
    return EXIT_BY_VERDICT[reading.verdict]


def _who(copy: Copy) -> str:
    revoked = f", revoked {copy.revoked_at[:10]}" if copy.revoked_at else ""
    unfinished = "" if copy.issued_at else ", reserved and never issued"
    return f"{copy.customer} (copy {copy.number}{revoked}{unfinished})"


def _lines(result: TraceResult, facts: Mapping[int, Copy]) -> Iterator[tuple[str, str]]:
    read = result.readback
    yield "endpoint", f"{result.info.address}" + (f" ({result.info.server})" if result.info.server else "")
    yield "asked", f"{result.symbols} symbols, {result.queries} probes; {result.answers}"
    yield (
        "bits",
        f"{read.right} right, {read.wrong} wrong, {read.erased} erased of {read.positions} against copy {read.copy}",
    )
    yield "copies", f"{result.copies} weighed, revoked ones among them; false accusations at most {result.fwer:g}"
    if not result.accused:
        best = result.strongest()[0]
        short = result.log10_threshold(best) - result.log10_e(best)
        yield "strongest", f"copy {best}, short of its threshold by 10^{short:.1f}"
    if result.mark_log10_p is not None:
        yield "mark", f"p = 10^{result.mark_log10_p:.1f}: a model without the mark answers so with that probability"
    yield "trace", f"number {result.trace} of this claim, run {result.run.run_id}"
    for note in result.notes:
        yield "note", note
