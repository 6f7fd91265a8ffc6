"""`ptynet claim sign-archive`: an OMS signature beside the archive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from model_store_tools.cli.options import ArchiveArgument
from model_store_tools.cli.outputs import require_writable, write_whole
from ptynet_plugin.errors import UsageError

__all__ = ["sign_archive"]


def sign_archive(
    archive: ArchiveArgument,
    *,
    signing_key: Annotated[Path, typer.Option(metavar="KEY.pem", help="Elliptic-curve private key, PEM, mode 0600.")],
    signature: Annotated[
        Path | None, typer.Option(help="File to write; must not exist. ARCHIVE.sig if not said.", show_default=False)
    ] = None,
) -> None:
    """Sign ARCHIVE in the OpenSSF Model Signing format (OMS). Nothing is written into it."""
    from ptynet_plugin.archives.checking import check_archive
    from ptynet_plugin.evidence import oms

    oms.require_library()
    file = _beside(archive) if signature is None else signature
    _require_new(file, archive)
    checked = check_archive(archive)
    write_whole(file, oms.sign_archive(archive, private_key=signing_key))
    typer.echo(f"signed {checked.manifest.name}, digest {checked.digest}", err=True)
    typer.echo(f"check: ptynet check {archive} --oms {file} --oms-key PUBLIC.pem", err=True)
    typer.echo(str(file))


def _beside(archive: Path) -> Path:
    whole = Path(os.path.abspath(archive))  # noqa: PTH100 -- a name for `.` and `..` too, and links stay links
    return archive.with_name(f"{archive.name}.sig") if archive.name == whole.name else Path(f"{whole}.sig")


def _require_new(signature: Path, archive: Path) -> None:
    if signature.resolve().is_relative_to(archive.resolve()):
        raise UsageError(f"--signature {signature}: lies in the archive, which it would break; name a file beside it")
    require_writable(signature)
    if os.path.lexists(signature):
        raise UsageError(f"{signature}: exists, and a signature is never written over; name another with --signature")
