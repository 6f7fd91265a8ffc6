"""`ptynet copies restore`: a lost registry from the certificates and the owner key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_store_tools.cli.copies.opening import DEFAULT_REGISTRY, RegistryOption
from model_store_tools.cli.options import KeyOption
from ptynet_plugin.errors import UsageError

__all__ = ["restore"]


def restore(
    certificates: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with the certificates.", show_default=False)
    ],
    *,
    highest: Annotated[
        int,
        typer.Option(help="Highest number ever given to a copy, or more; numbers up to it are not given again.", min=0),
    ] = 0,
    traces: Annotated[int, typer.Option(help="How many traces were ever made, or more.", min=0, show_default=False)],
    registry: RegistryOption = DEFAULT_REGISTRY,
    key: KeyOption = None,
) -> None:
    """Rebuild a registry. Every certificate's signature and code word is checked against the key; all are entered, or none."""
    from model_store_tools.certificates.restoring import collect
    from model_store_tools.registry import Registry
    from model_store_tools.registry.restoring import copies_from, counters_from
    from ptynet_plugin.keyfile import read_key

    if not certificates.is_dir():
        raise UsageError(f"{certificates}: no such folder")
    owner = read_key(key)
    found = collect(certificates, owner)
    top = counters_from(found, highest)
    with Registry.open(registry, owner=owner.fingerprint()) as opened:
        entered = opened.restore(copies_from(found), highest=top, traces=dict.fromkeys(top, traces))
    typer.echo(f"entered {entered} of {len(found)} copies of {len(top)} claim(s)")
    for claim, last in top.items():
        known = sum(each.certificate.facts.claim == claim for each in found)
        typer.echo(
            f"claim {claim[:16]}...: next number {last + 1}, {last - known} without a certificate, next trace {traces + 1}",
            err=True,
        )
    typer.echo(
        "not restored: revocations without a later copy, and what past traces found; revoke again what was revoked",
        err=True,
    )
