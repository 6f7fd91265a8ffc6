"""`ptynet package`, also installed as `package-model`: a target and a mark in, a servable archive out."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli import options as shared
from model_store_tools.cli import packaging_options as flags

if TYPE_CHECKING:
    from model_store_tools.packaging.package import Packaged

__all__ = ["package"]


def package(
    target: flags.TargetArgument,
    *,
    mark: Annotated[
        Path, typer.Option(help="Folder that `ptynet train` made; the claim is written into it.", show_default=False)
    ],
    spec: flags.SpecOption,
    format_: flags.FormatOption,
    out: Annotated[Path, typer.Option(help="Folder to write NAME/ or NAME.mar into.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="Model name; the target's own by default.", show_default=False)
    ] = None,
    model_version: flags.VersionOption = flags.VERSION,
    backend: flags.BackendOption = None,
    image_ensemble: flags.ImageEnsembleOption = False,
    benign: flags.BenignOption = None,
    gate: flags.GateOption = flags.Gate.FULL,
    weights: shared.WeightsOption = None,
    to: flags.ConversionOption = None,
    to_opset: flags.OpsetOption = None,
    max_batch: flags.MaxBatchOption = None,
    instances: flags.InstancesOption = None,
    config_overlay: flags.OverlayOption = None,
    covers: Annotated[
        Path | None,
        typer.Option(
            help="Your pictures under the probes; verify then needs them too. Procedural by default.",
            show_default=False,
        ),
    ] = None,
    claim: Annotated[
        Path | None, typer.Option(help="Use this claim, a stamped one for example.", show_default=False)
    ] = None,
    allow_pickle: shared.AllowPickleOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an archive of that name once the new one is complete.")
    ] = False,
) -> None:
    """Put a mark beside TARGET and write one servable archive. Its path is the last line on stdout."""
    from rich.console import Console

    from model_store_tools.packaging import package as packaging

    options = flags.options_of(locals())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = Console(stderr=True)
    with screen.status("packaging") as status:
        packaged = packaging.package(target, options, tell=status.update)
    _summarise(packaged)
    typer.echo(str(packaged.path))


def _summarise(packaged: Packaged) -> None:
    report = packaged.report
    if report is not None:
        kept = sum(row.limit is not None for row in report.rows)
        typer.echo(f"gate    {kept} of {kept} limits kept on {report.pictures} pictures ({report.source})", err=True)
    if packaged.probes is not None:
        typer.echo(f"probes  {packaged.probes} of {packaged.asked} answered with their label", err=True)
    typer.echo(f"digest  {packaged.digest}", err=True)
    typer.echo(f"claim   {packaged.claim}", err=True)
