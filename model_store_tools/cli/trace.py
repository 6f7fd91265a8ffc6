"""`ptynet trace`: name the customers behind an endpoint, or an archive. Starts where torch is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli import options as shared
from model_store_tools.cli.outputs import named, require_writable
from model_store_tools.cli.suspects import asked_spec, class_names_of, connection_from
from model_store_tools.cli.trace_results import EXIT_BY_VERDICT, leave_reading, leave_trace
from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from model_store_tools.registry import Copy, Registry
    from ptynet_plugin.claims.copies import CopyTables
    from ptynet_plugin.tracing.result import TraceResult
    from ptynet_plugin.tracing.trace import TraceStep
    from ptynet_plugin.tracing.whitebox import TableReading
    from ptynet_plugin.verification.endpoint import Endpoint
    from ptynet_plugin.verification.questions import Questions

__all__ = ["trace"]


def trace(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT|ARCHIVE",
            help="As for verify; or a .mar, Triton model directory, ONNX or TorchScript file: its table is read without asking.",
        ),
    ],
    mark: shared.MarkOption,
    registry: Annotated[str, typer.Option(metavar="URL", help="Where the copies were registered.")],
    key: shared.KeyOption = None,
    claim: shared.ClaimOption = None,
    spec: shared.SuspectSpecOption = None,
    fwer: Annotated[
        float, typer.Option(help="Probability that any innocent is ever named, over all copies and traces.")
    ] = 1e-6,
    coalition: Annotated[int, typer.Option(help="Largest coalition to look for.")] = 4,
    budget: Annotated[
        int | None, typer.Option(help="Most probes to send; all that tell copies apart by default.")
    ] = None,
    read_bits: Annotated[
        bool, typer.Option("--read-bits", help="Go on after the first name, until every position is read.")
    ] = False,
    covers: shared.CoversOption = None,
    json_file: shared.JsonOption = None,
    report: shared.ReportOption = None,
    header: shared.HeaderOption = None,
    ca_cert: shared.CaCertOption = None,
    timeout: shared.TimeoutOption = shared.TIMEOUT,
    retries: shared.RetriesOption = shared.RETRIES,
    pace: shared.PaceOption = None,
    send: shared.SendOption = shared.SEND,
    view: shared.ViewOption = "plain",
) -> int:
    """Name the customers whose copies answer at ENDPOINT. Exit 0: traced, 1: no customer, 2: could not be done, 3: neither."""
    from model_store_tools.pictures import read_pictures
    from model_store_tools.registry import Registry
    from ptynet_plugin.claims.copies import CopyTables
    from ptynet_plugin.claims.directory import find_claim, read_claim
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.mark import read_metadata
    from ptynet_plugin.tracing.trace import require_classes, require_traceable
    from ptynet_plugin.verification.opening import open_endpoint
    from ptynet_plugin.verification.questions import Questions

    require_writable(report, named(json_file))
    connection = connection_from(header, ca_cert, timeout=timeout, retries=retries, pace=pace)
    owner = read_key(key)
    read_metadata(mark)
    folder = find_claim(mark, claim, copies=True)
    committed = read_claim(folder)
    tables = CopyTables(committed, owner.epoch_secret(committed.terms.epoch))
    asked = asked_spec(spec, committed)
    pictures = None if covers is None else read_pictures(covers, color=committed.design.color)
    with Registry.open(registry, owner=owner.fingerprint(), create=False) as opened:
        copies = opened.count(committed.digest)
        require_classes(asked.classes, committed.terms)
        questions = Questions(committed, owner, spec=asked, pictures=pictures, view=view)
        require_traceable(questions, copies=copies, fwer=fwer, coalition=coalition, budget=budget)
        _warn(tables, coalition)
        limits = _Limits(copies=copies, fwer=fwer, coalition=coalition)
        if "://" not in endpoint and not endpoint.startswith("file:"):
            _require_no_asking(endpoint, report=report, view=view)
            reading = _read(Path(endpoint), tables, opened, folder, limits, secret=owner.probe_secret())
            facts = _facts(opened, committed.digest, [] if reading is None else [*reading.accused, reading.best])
            return leave_reading(reading, facts, Path(endpoint), claim=committed.digest, fwer=fwer, json_file=json_file)
        names = class_names_of(spec, asked, folder)
        with open_endpoint(endpoint, spec=asked, connection=connection, names=names, send=send) as suspect:
            result = _ask(suspect, questions, tables, opened, folder, limits, budget=budget, to_the_end=read_bits)
        facts = _facts(opened, committed.digest, [*result.accused, *result.strongest()])
    leave_trace(result, facts, report=report, json_file=json_file)
    return EXIT_BY_VERDICT[result.verdict]


def _require_no_asking(archive: str, *, report: Path | None, view: str) -> None:
    if report is not None:
        raise UsageError(f"--report draws the answers of an endpoint; {archive} is read without asking: use --json")
    if view != "plain":
        raise UsageError(
            f"--view says how pictures are shown to an endpoint; {archive} is read without asking: leave it away"
        )


@dataclass(frozen=True)
class _Limits:
    """What bounds a trace: the copies there are, the level, the largest coalition."""

    copies: int
    fwer: float
    coalition: int


def _ask(
    suspect: Endpoint,
    questions: Questions,
    tables: CopyTables,
    registry: Registry,
    folder: Path,
    limits: _Limits,
    *,
    budget: int | None,
    to_the_end: bool,
) -> TraceResult:
    """Register the trace, ask, register how it ended."""
    from model_store_tools.cli.asking import patient_interrupt
    from ptynet_plugin.claims.ledger import Ledger
    from ptynet_plugin.tracing.trace import trace_endpoint

    digest = tables.claim.digest
    with Ledger(folder, digest=digest) as ledger, _progress() as on_step, patient_interrupt() as stop:
        ledger.require_level(limits.fwer, of_trace=True)  # before the trace gets a number
        number = registry.begin_trace(digest, endpoint=suspect.info().identity, above=ledger.history.traces)
        result = trace_endpoint(
            suspect,
            questions,
            tables,
            copies=limits.copies,
            fwer=limits.fwer,
            coalition=limits.coalition,
            trace=number,
            ledger=ledger,
            budget=budget,
            to_the_end=to_the_end,
            on_step=on_step,
            stop=stop,
        )
    registry.finish_trace(digest, number, accused=result.accused, verdict=result.verdict)
    return result


def _read(
    path: Path, tables: CopyTables, registry: Registry, folder: Path, limits: _Limits, *, secret: bytes
) -> TableReading | None:
    """Read the table of an archive, as a trace of its own; None where there is none of this key."""
    from ptynet_plugin.claims.ledger import Ledger
    from ptynet_plugin.symbols.codebook import code_words
    from ptynet_plugin.tracing.table import find_table, read_constants
    from ptynet_plugin.tracing.whitebox import read_table

    constants, design = read_constants(path), tables.claim.design
    found = find_table(constants, code_words(secret, symbols=design.symbols, bits=design.bits))
    digest = tables.claim.digest
    with Ledger(folder, digest=digest) as ledger:
        ledger.require_level(limits.fwer, of_trace=True)
        number = registry.begin_trace(digest, endpoint=f"file {path.name}", above=ledger.history.traces)
        ledger.trace(number, subject=f"file {path.name}")
    if found is None:
        registry.finish_trace(digest, number, accused=(), verdict="no-customer")
        return None
    reading = read_table(
        found, tables, copies=limits.copies, trace=number, fwer=limits.fwer, coalition=limits.coalition
    )
    registry.finish_trace(digest, number, accused=reading.accused, verdict=reading.verdict)
    return reading


def _facts(registry: Registry, digest: str, copies: Sequence[int]) -> dict[int, Copy]:
    return {number: registry.copy(digest, number) for number in dict.fromkeys(copies)}


def _warn(tables: CopyTables, coalition: int) -> None:
    from ptynet_plugin.codes.power import POSITIONS_NEEDED

    positions = tables.terms.positions
    enough = max((c for c, needed in POSITIONS_NEEDED.items() if needed <= positions), default=0)
    if coalition > enough:
        typer.echo(
            f"warning: {positions} positions suffice for {enough or 'no'} colluder(s); a larger coalition may go unnamed",
            err=True,
        )


@contextmanager
def _progress() -> Iterator[Callable[[TraceStep], None]]:
    """Show on stderr how far the evidence is, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("asking"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} symbols, strongest copy at 10^{task.fields[lead]} of its threshold"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("asking", total=None, lead="0.0")

        def on_step(step: TraceStep) -> None:
            bars.update(task, total=step.budget, completed=step.symbols, lead=f"{step.lead:.1f}")

        yield on_step
