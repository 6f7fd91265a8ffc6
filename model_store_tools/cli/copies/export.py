"""`ptynet copies export`: the whole registry as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store_tools.cli.copies.list import SCHEMA
from model_store_tools.cli.copies.opening import DEFAULT_REGISTRY, ClaimOption, RegistryOption, chosen_claim_or_none
from model_store_tools.cli.outputs import require_writable, write_whole

if TYPE_CHECKING:
    from model_store_tools.registry import Copy, Trace

__all__ = ["export"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Form(StrEnum):
    """What is written."""

    CSV = "csv"
    JSON = "json"


def export(
    *,
    registry: RegistryOption = DEFAULT_REGISTRY,
    claim: ClaimOption = None,
    format_: Annotated[Form, typer.Option("--format", help="csv: copies; json: copies and traces.")] = Form.JSON,
    out: Annotated[Path | None, typer.Option(help="File; standard output where not said.", show_default=False)] = None,
) -> None:
    """Write all copies (and traces, in JSON) out. Holds customers' names: keep it as you keep the registry."""
    from model_store_tools.registry import Registry

    require_writable(out)
    with Registry.open(registry) as opened:
        asked = chosen_claim_or_none(opened, claim)
        copies = opened.copies(asked)
        text = _csv(copies) if format_ is Form.CSV else _json(opened.owner, copies, opened.traces(asked))
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_whole(out, text)


def _json(owner: str, copies: Iterable[Copy], traces: Iterable[Trace]) -> str:
    value = {
        "schema": SCHEMA,
        "owner": owner,
        "copies": [copy.to_json() for copy in copies],
        "traces": [trace.to_json() for trace in traces],
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _csv(copies: Iterable[Copy]) -> str:
    from model_store_tools.registry.records import PUBLIC_FIELDS

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(PUBLIC_FIELDS)
    writer.writerows([_cell(value) for value in copy.to_json().values()] for copy in copies)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Keep a spreadsheet from taking a customer's name for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
