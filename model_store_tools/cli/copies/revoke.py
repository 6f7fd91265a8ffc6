"""`ptynet copies revoke`: a copy that must not be used any more, and makes room for another."""

from __future__ import annotations

from typing import Annotated

import typer

from model_store_tools.cli.copies.opening import (
    DEFAULT_REGISTRY,
    ClaimOption,
    NumberArgument,
    RegistryOption,
    chosen_claim,
)

__all__ = ["revoke"]


def revoke(
    number: NumberArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why; kept and shown in traces.", show_default=False)],
    registry: RegistryOption = DEFAULT_REGISTRY,
    claim: ClaimOption = None,
) -> None:
    """Revoke a copy. It is traced as before, and named as revoked; its customer may get a new one."""
    from model_store_tools.registry import Registry

    with Registry.open(registry) as opened:
        copy = opened.revoke(chosen_claim(opened, claim), number, reason=reason)
    typer.echo(f"revoked copy {copy.number} of {copy.customer}: {copy.revoked_because}")
