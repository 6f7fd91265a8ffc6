"""`ptynet copies list`: who has which copy."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from model_store_tools.cli.copies.opening import DEFAULT_REGISTRY, ClaimOption, RegistryOption, chosen_claim_or_none
from model_store_tools.cli.options import JsonOption
from model_store_tools.cli.outputs import named, require_writable, write_json

__all__ = ["SCHEMA", "list_"]

SCHEMA = "ptynet-copies/v1"


def list_(
    *,
    registry: RegistryOption = DEFAULT_REGISTRY,
    claim: ClaimOption = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's.", show_default=False)] = None,
    revoked: Annotated[bool | None, typer.Option("--revoked/--valid", help="Only those.", show_default=False)] = None,
    json_: JsonOption = None,
) -> None:
    """List the copies of a registry, one a line: number, state, day, customer, archive."""
    from model_store_tools.registry import Registry

    require_writable(named(json_))
    with Registry.open(registry) as opened:
        which = chosen_claim_or_none(opened, claim)
        if json_ is not None:
            listed = [copy.to_json() for copy in opened.copies(which, customer=customer, revoked=revoked)]
            write_json(json_, json.dumps({"schema": SCHEMA, "copies": listed}, indent=1, ensure_ascii=False) + "\n")
            return
        for some in opened.lines(which, customer=customer, revoked=revoked):
            sys.stdout.write(some)  # typer.echo looks for colors: slow for much text
