"""`ptynet copies list`: who has which copy."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.copies.opening import ClaimOption, RegistryOption, chosen_claim_or_none
from model_store_tools.cli.outputs import named, require_writable, write_json

if TYPE_CHECKING:
    from model_store_tools.registry import ListedCopy

__all__ = ["DEFAULT_REGISTRY", "SCHEMA", "list_"]

DEFAULT_REGISTRY = "sqlite:///copies.db"
SCHEMA = "ptynet-copies/v1"
AT_ONCE = 2000


def list_(
    *,
    registry: RegistryOption = DEFAULT_REGISTRY,
    claim: ClaimOption = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's.", show_default=False)] = None,
    revoked: Annotated[bool | None, typer.Option("--revoked/--valid", help="Only those.", show_default=False)] = None,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write JSON; - is standard output.", show_default=False)
    ] = None,
) -> None:
    """List the copies of a registry, one a line: number, state, day, customer, archive."""
    from model_store_tools.registry import Registry  # noqa: PLC0415 -- the customer's verb needs no database

    require_writable(named(json_))
    with Registry.open(registry) as opened:
        which = chosen_claim_or_none(opened, claim)
        if json_ is not None:
            listed = [copy.to_json() for copy in opened.copies(which, customer=customer, revoked=revoked)]
            write_json(json_, json.dumps({"schema": SCHEMA, "copies": listed}, indent=1, ensure_ascii=False) + "\n")
            return
        lines = _lines(opened.listed(which, customer=customer, revoked=revoked))
        while some := list(itertools.islice(lines, AT_ONCE)):
            sys.stdout.write("".join(some))  # typer.echo looks at every line for colors: slow for many


def _lines(copies: Iterable[ListedCopy]) -> Iterator[str]:
    claim = None
    for copy in copies:
        if copy.claim != claim:
            claim = copy.claim
            yield f"claim {claim}\n"
        state = "revoked " if copy.revoked_at else "issued  " if copy.issued_at else "reserved"
        signed = " countersigned" if copy.countersigner else ""
        day = (copy.issued_at or copy.reserved_at)[:10]
        yield f"{copy.number:>7} {state} {day} {copy.customer}  {copy.archive or ''}{signed}\n"
