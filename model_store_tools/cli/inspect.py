"""`ptynet inspect`: what an archive says of itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.options import ArchiveArgument
from model_store_tools.cli.outputs import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from ptynet_plugin.archives.manifest import Manifest

__all__ = ["inspect"]

WIDTH = 200
"""Columns where the output goes to no terminal: lines are not broken there."""


def inspect(
    archive: ArchiveArgument,
    *,
    json_: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write manifest and digest as JSON; - for standard output."),
    ] = None,
) -> None:
    """Show what ARCHIVE says of itself. Nothing is run, and nothing but its manifest is believed: `check` checks."""
    from ptynet_plugin.archives.reading import open_archive

    with open_archive(archive) as opened:
        manifest, digest = opened.manifest(), opened.digest()
        unlisted = sorted(set(opened.names()) - set(manifest.files) - {"ptynet-manifest.json"})
    if json_ is None:
        from rich.console import Console

        width = None if sys.stdout.isatty() else WIDTH
        Console(width=width).print(_table(archive, manifest, digest, unlisted))
        return
    content = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    content.update(archive_digest=digest, unlisted=unlisted)
    write_json(json_, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _table(archive: Path, manifest: Manifest, digest: str, unlisted: list[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for field, value in _rows(archive, manifest, digest):
        table.add_row(Text(field, style="bold"), Text(_plain(value)))
    for name, file in sorted(manifest.files.items()):
        table.add_row("", Text(f"{file.sha256[:16]}  {file.size:>12,}  {name}"))
    for name in unlisted:
        table.add_row("", Text(f"NOT IN THE MANIFEST              {_plain(name)}", style="bold red"))
    return table


def _plain(text: str) -> str:
    """Write control characters out: an archive's own words must not steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _rows(archive: Path, manifest: Manifest, digest: str) -> list[tuple[str, str]]:
    spec = manifest.spec
    size = "x".join(str(side or "any") for side in spec.size or ())
    rows = [
        ("archive", str(archive)),
        ("digest", digest),
        ("model", f"{manifest.name}, version {manifest.version}"),
        ("for", f"{manifest.format}, {manifest.backend} backend, {manifest.engine} engine"),
        ("input", f"{manifest.input}: {spec.color} {size}, {spec.layout} {spec.dtype}, {_normalisation(manifest)}"),
        ("output", f"{manifest.scores}: {manifest.classes} classes, {spec.output}"),
        ("batch", f"up to {manifest.batch} rows" if manifest.batch else "exactly one row"),
        ("target", f"{manifest.target.kind}, {len(manifest.target.tensors)} tensors, digest {manifest.target.digest}"),
        ("claim", f"commitment {manifest.claim}" if manifest.claim else "none"),
    ]
    if manifest.companions:
        rows.append(("beside", ", ".join(sorted(manifest.companions))))
    if manifest.guarded:
        rows.append(("handler", f"{manifest.guarded}, behind the integrity check"))
    return [*rows, ("files", f"{len(manifest.files)}, SHA-256, bytes, name")]


def _normalisation(manifest: Manifest) -> str:
    spec = manifest.spec
    if spec.mean is not None:
        return f"(pixel / 255 - {list(spec.mean)}) / {list(spec.std or ())}"
    gain = spec.affine()[0][0]
    return "pixel" if gain == 1 else f"pixel * {gain:.6g}"
