"""`ptynet check`: is an archive what its manifest says, byte for byte and tensor for tensor?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.options import ArchiveArgument
from ptynet_plugin.errors import ArchiveError, IntegrityError, UsageError

if TYPE_CHECKING:
    from ptynet_plugin.archives.manifest import Manifest

__all__ = ["check"]


def check(
    archive: ArchiveArgument,
    *,
    expect: Annotated[
        str | None, typer.Option(help="Archive digest it must have, 64 hex digits.", show_default=False)
    ] = None,
    oms: Annotated[
        Path | None, typer.Option(metavar="SIGNATURE", help="OMS signature it must have.", show_default=False)
    ] = None,
    oms_key: Annotated[
        Path | None, typer.Option(metavar="PUBLIC.pem", help="Public key of --oms.", show_default=False)
    ] = None,
) -> None:
    """Check ARCHIVE against its manifest, the target's tensors included. Exit 1 names the first broken thing."""
    from ptynet_plugin.archives.checking import check_archive

    if expect is not None and re.fullmatch(r"[0-9A-Fa-f]{64}", expect.strip()) is None:
        raise UsageError(f"--expect {expect}: no SHA-256; 64 hex digits are expected, as `ptynet check` prints them")
    if (oms is None) != (oms_key is None):
        raise UsageError("--oms SIGNATURE and --oms-key PUBLIC.pem go together; give both")
    if oms is not None:
        from ptynet_plugin.evidence.oms import require_library

        require_library()
    if not archive.exists():
        raise ArchiveError(f"{archive}: no such file or folder")
    try:
        checked = check_archive(archive, expect=expect)
    except ArchiveError as error:  # an archive that cannot even be read has failed its check
        raise IntegrityError(str(error)) from error
    manifest = checked.manifest
    if oms is not None and oms_key is not None:
        _check_signature(archive, manifest, oms, oms_key)
    typer.echo(f"ok      {manifest.name} version {manifest.version}, {len(manifest.files)} files")
    typer.echo(f"target  {checked.tensors} tensors unchanged, digest {manifest.target.digest}")
    for name in checked.companions:
        typer.echo(f"beside  {name}")
    if oms is not None:
        typer.echo(f"signed  {oms}, by {oms_key}")
    typer.echo(f"digest  {checked.digest}")


def _check_signature(archive: Path, manifest: Manifest, signature: Path, key: Path) -> None:
    from ptynet_plugin.archives.manifest import MANIFEST_NAME
    from ptynet_plugin.evidence.oms import verify_archive

    members = {*manifest.files, MANIFEST_NAME} if archive.is_dir() else None
    verify_archive(archive, signature, public_key=key, members=members)
