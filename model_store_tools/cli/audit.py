"""`ptynet audit`: attack one's own archive, and see what is left of model and mark."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from model_store_tools.cli.options import (
    ArchiveArgument,
    ClaimOption,
    CoversOption,
    JsonOption,
    KeyOption,
    ReportOption,
)
from model_store_tools.cli.outputs import named, require_writable, write_json, write_whole
from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from model_store_tools.audit.audit import Audit

__all__ = ["audit"]


def audit(
    archive: ArchiveArgument,
    mark: Annotated[Path, typer.Option(help="The mark's folder.")],
    key: KeyOption = None,
    claim: ClaimOption = None,
    suite: Annotated[
        Literal["quick", "full"], typer.Option(help="quick: a minute. full: trains, needs --data.")
    ] = "quick",
    data: Annotated[
        Path | None, typer.Option(help="Pictures, one subfolder per class; procedural covers where left out.")
    ] = None,
    thief: Annotated[int | None, typer.Option(help="Most pictures of the thief (quick: 256, full: 1000).")] = None,
    held_out: Annotated[int, typer.Option(help="Most pictures on which accuracy is measured.")] = 200,
    covers: CoversOption = None,
    seed: Annotated[int, typer.Option(help="For all randomness of the attacks.")] = 0,
    json_file: JsonOption = None,
    report: ReportOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Keep rows in this file as they are measured; a stopped audit is carried on from it."),
    ] = None,
) -> int:
    """Attack ARCHIVE. Exit 0: every promise kept, 1: one broken, 2: could not be done, 3: a promised attack failed to run."""
    from rich.console import Console

    from model_store_tools.audit.audit import Effort, audit_archive
    from model_store_tools.pictures import read_pictures
    from ptynet_plugin.claims.directory import find_claim, read_claim
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.mark import read_network

    require_writable(report, named(json_file))
    pictures = thief if thief is not None else (256 if suite == "quick" else 1000)
    if pictures < 1 or held_out < 1:
        raise UsageError(f"--thief {pictures} --held-out {held_out}: both must be at least 1")
    owner = read_key(key)
    network = read_network(mark)
    committed = read_claim(find_claim(mark, claim, copies=False))
    own = None if covers is None else read_pictures(covers, color=committed.design.color)
    effort = Effort(suite, data, thief=pictures, held_out=held_out, seed=seed)
    with Console(stderr=True).status("attacking") as status, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters and tracers advise at length
        found = audit_archive(
            archive,
            committed,
            owner,
            network,
            effort,
            covers=own,
            resume=resume,
            tell=lambda name: status.update(f"attacking: {name}"),
        )
    if report is not None:
        from model_store_tools.audit.page import render_audit

        write_whole(report, render_audit(found))
    _print(found, to_stderr=json_file == "-")
    if json_file is not None:
        text = json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n"
        write_json(json_file, text)
    return found.exit_code


def _print(found: Audit, *, to_stderr: bool) -> None:
    from model_store_tools.audit.table import table_of

    for line in table_of(found):
        typer.echo(line, err=to_stderr)
