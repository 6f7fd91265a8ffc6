"""`ptynet check`: is an archive what its manifest says, byte for byte and tensor for tensor?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ptynet_plugin.errors import ArchiveError, IntegrityError, UsageError

__all__ = ["check"]


def check(
    archive: Annotated[Path, typer.Argument(help="A .mar, or a Triton model directory.", show_default=False)],
    *,
    expect: Annotated[
        str | None, typer.Option(help="Archive digest it must have, 64 hex digits.", show_default=False)
    ] = None,
) -> None:
    """Check ARCHIVE against its manifest, the target's tensors included. Exit 1 names the first broken thing."""
    from ptynet_plugin.archives.checking import check_archive  # noqa: PLC0415 -- keeps `ptynet --help` fast

    if expect is not None and re.fullmatch(r"[0-9A-Fa-f]{64}", expect.strip()) is None:
        raise UsageError(f"--expect {expect}: no SHA-256; 64 hex digits are expected, as `ptynet check` prints them")
    if not archive.exists():
        raise ArchiveError(f"{archive}: no such file or folder")
    try:
        checked = check_archive(archive, expect=expect)
    except ArchiveError as error:  # an archive that cannot even be read has failed its check
        raise IntegrityError(str(error)) from error
    manifest = checked.manifest
    typer.echo(f"ok      {manifest.name} version {manifest.version}, {len(manifest.files)} files")
    typer.echo(f"target  {checked.tensors} tensors unchanged, digest {manifest.target.digest}")
    for name in checked.companions:
        typer.echo(f"beside  {name}")
    typer.echo(f"digest  {checked.digest}")
