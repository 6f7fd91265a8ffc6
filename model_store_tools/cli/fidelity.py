"""`ptynet fidelity`: how faithful an archive is to its target, as a table, JSON and a page with plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.options import ArchiveArgument, JsonOption, ReportOption, WeightsOption
from model_store_tools.cli.outputs import named, require_writable, write_json, write_whole
from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from ptynet_plugin.fidelity.report import FidelityReport

__all__ = ["fidelity"]


def fidelity(
    archive: ArchiveArgument,
    target: Annotated[str, typer.Option(help="The bare target it was made from: a file, or package.module:factory.")],
    benign: Annotated[
        Path | None, typer.Option(help="Folder of ordinary pictures, labels by folder names; procedural covers else.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Most pictures to compare.")] = 1000,
    feature: Annotated[
        str | None,
        typer.Option(help="ONNX: the tensor with the penultimate features; torch: the layer that reads them, by name."),
    ] = None,
    weights: WeightsOption = None,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> int:
    """Compare ARCHIVE with the bare target on benign pictures. Exit 0: every limit kept, 1: not, 2: could not be done."""
    from rich.console import Console

    from model_store_tools.packaging.fidelity import Choices, archive_fidelity

    if pictures < 2:
        raise UsageError(f"--pictures {pictures}: at least 2 are needed to compare two models")
    require_writable(report, named(json_file))
    choices = Choices(benign, pictures, feature, weights, slices=report is not None)
    with Console(stderr=True).status("running both models"):
        measured = archive_fidelity(archive, target, choices)
    if report is not None:
        from ptynet_plugin.fidelity.page import render_fidelity

        write_whole(report, render_fidelity(measured, name=archive.name))
    _print(measured, to_stderr=json_file == "-")
    if json_file is not None:
        text = json.dumps(measured.to_json(), indent=2, allow_nan=False) + "\n"
        write_json(json_file, text)
    return 0 if measured.ok else 1


def _print(measured: FidelityReport, *, to_stderr: bool) -> None:
    for row in measured.rows:
        value = "not measured" if row.value is None else f"{row.value:.6g}"
        limit = "" if row.limit is None else f"  ({row.bound} {row.limit:g})"
        failed = "" if row.ok else "  FAILED"
        note = f"  {row.note}" if row.note else ""
        typer.echo(f"  {row.title:<58} {value}{limit}{failed}{note}", err=to_stderr)
    verdict = "KEPT: every limit holds" if measured.ok else f"FAILED: {len(measured.failures())} limits do not hold"
    typer.echo(
        f"{verdict} on {measured.pictures} pictures ({measured.source}), {measured.seconds:.1f} s", err=to_stderr
    )
