"""`ptynet copies issue`: an archive for a customer that no other customer has."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli import options as shared
from model_store_tools.cli import packaging_options as flags
from model_store_tools.cli.copies.opening import DEFAULT_REGISTRY, RegistryOption

if TYPE_CHECKING:
    from model_store_tools.packaging.copies import CopyPackager
    from model_store_tools.packaging.issuing import Issued

__all__ = ["issue"]


def issue(
    target: flags.TargetArgument,
    *,
    customer: Annotated[
        list[str], typer.Option(help="Who gets it; repeatable: the target is then loaded once.", show_default=False)
    ],
    registry: RegistryOption = DEFAULT_REGISTRY,
    mark: Annotated[Path, typer.Option(help="Folder that `ptynet train` made.", show_default=False)],
    spec: flags.SpecOption,
    format_: flags.FormatOption,
    out: Annotated[Path, typer.Option(help="Folder to write the archives into.", show_default=False)],
    key: shared.KeyOption = None,
    coalition: Annotated[
        int | None, typer.Option(help="Colluders the code is made for (default: 4).", show_default=False)
    ] = None,
    positions: Annotated[
        int | None,
        typer.Option(help="Length of a code word; all the mark has room for by default.", show_default=False),
    ] = None,
    quick: Annotated[
        int | None, typer.Option(help="Symbols that name a single leaker at once.", show_default=False)
    ] = None,
    claim: Annotated[
        Path | None, typer.Option(help="A claim for copies, a stamped one for example.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Model name; TARGET-copy-NUMBER by default.", show_default=False)
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
        Path | None, typer.Option(help="Your pictures under the probes; trace needs them too.", show_default=False)
    ] = None,
    allow_pickle: shared.AllowPickleOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an archive of that name, and a claim.")] = False,
) -> None:
    """Package TARGET for a customer, without retraining: only the table of labels is his own. Prints the archive's path."""
    from rich.console import Console

    from model_store_tools.packaging.copies import CopyPackager, CopyWishes
    from model_store_tools.packaging.issuing import issue_copies
    from model_store_tools.registry import Registry
    from ptynet_plugin.keyfile import read_key

    options = flags.options_of(locals())
    wishes = CopyWishes(positions=positions, quick=quick, coalition=coalition)
    owner = read_key(key).fingerprint()
    _require_key_of(mark, owner)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = Console(stderr=True)
    with (
        Registry.open(registry, owner=owner) as opened,
        screen.status("packaging") as status,
        CopyPackager(target, options, wishes=wishes, tell=status.update) as packager,
    ):
        _say_power(packager)
        for issued in issue_copies(packager, opened, customer, format=format_.value, name=name):
            _summarise(issued)
            typer.echo(str(issued.packaged.path))


def _require_key_of(mark: Path, fingerprint: str) -> None:
    from ptynet_plugin.errors import UsageError
    from ptynet_plugin.mark import read_metadata

    theirs = read_metadata(mark).key_fingerprint
    if theirs != fingerprint:
        raise UsageError(
            f"{mark}: was trained with the key {theirs[:16]}..., --key is {fingerprint[:16]}...; give that key"
        )


def _say_power(packager: CopyPackager) -> None:
    """Tell what the code is worth, and warn where it falls short of the coalition it was asked for."""
    from ptynet_plugin.codes.power import POSITIONS_NEEDED, tracing_power

    terms = packager.tables.terms
    colluders = max((c for c, needed in POSITIONS_NEEDED.items() if needed <= terms.positions), default=0)
    typer.echo(
        f"code    {terms.positions} positions, {terms.quick} quick symbols, coalition {terms.coalition}", err=True
    )
    if not packager.fresh or colluders >= terms.coalition or terms.coalition not in POSITIONS_NEEDED:
        return
    power = tracing_power(terms.coalition, positions=terms.positions, coalition=terms.coalition)
    typer.echo(
        f"warning: {terms.positions} positions suffice for {colluders or 'no'} colluder(s), not for {terms.coalition}: one of "
        f"{terms.coalition} is then named with power {power:.2f}; {POSITIONS_NEEDED[terms.coalition]} positions would do "
        "(copy 1000, false accusations one in a million)",
        err=True,
    )


def _summarise(issued: Issued) -> None:
    from model_store_tools.packaging.certifying import certificate_paths

    if issued.before:
        day = issued.copy.issued_at[:10]
        typer.echo(
            f"copy    {issued.copy.number} for {issued.copy.customer}: issued on {day} with this archive, left as it is",
            err=True,
        )
        return
    typer.echo(f"copy    {issued.copy.number} for {issued.copy.customer}", err=True)
    typer.echo(f"digest  {issued.packaged.digest}", err=True)
    typer.echo(f"claim   {issued.packaged.claim}", err=True)
    typer.echo(f"beside  {certificate_paths(issued.packaged.path)[0].name}: hand it over with the archive", err=True)
