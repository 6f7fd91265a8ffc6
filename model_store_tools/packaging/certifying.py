"""A certificate beside every copy's archive: `NAME.certificate.json`, signed, and the same as a page."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from model_store_tools.certificates import Certificate, CodeFacts, make_certificate, render_certificate
from model_store_tools.certificates.restoring import CERTIFICATE
from model_store_tools.packaging.package import Packaged
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.errors import ArchiveError

__all__ = ["certificate_paths", "certify"]


def certify(copy: Any, packaged: Packaged, tables: CopyTables, *, format: str, issued: str) -> Certificate:
    """Sign a copy's certificate and write it beside the archive, in both forms.

    Args:
        copy: The registry's record, reserved.
        packaged: The archive in its place.
        tables: Of the copy's claim.
        format: "triton" or "torchserve".
        issued: When, UTC, ISO 8601.

    Raises:
        ArchiveError: A file cannot be written.
    """
    claim, terms = tables.claim, tables.terms
    code = CodeFacts(
        positions=terms.positions,
        quick=terms.quick,
        coalition=terms.coalition,
        classes=claim.terms.classes,
        salt=claim.salt.hex(),
        epoch=claim.terms.epoch,
    )
    made = make_certificate(
        secret=tables.secret,
        claim=claim.digest,
        number=copy.number,
        customer=copy.customer,
        issued=issued,
        archive=packaged.path.name,
        format=format,
        digest=packaged.digest,
        code=code,
    )
    signed, page = certificate_paths(packaged.path)
    _write(signed, made.octets)
    _write(page, render_certificate(made).encode())
    return made


def certificate_paths(archive: Path) -> tuple[Path, Path]:
    """Give where an archive's certificate lies: the signed JSON and the page."""
    name = archive.name.removesuffix(".mar")
    return archive.with_name(name + CERTIFICATE), archive.with_name(f"{name}.certificate.html")


def _write(path: Path, octets: bytes) -> None:
    """Write a file whole or not at all, readable by its owner alone: it holds the customer's name."""
    scratch: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".ptynet-", delete=False) as file:
            scratch = Path(file.name)
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise ArchiveError(f"{path}: cannot be written ({error.strerror})") from error
