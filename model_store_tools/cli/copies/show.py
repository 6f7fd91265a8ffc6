"""`ptynet copies show`: one copy, and whether certificate, archive and countersignature are what the registry says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.copies.opening import (
    DEFAULT_REGISTRY,
    ClaimOption,
    NumberArgument,
    RegistryOption,
    chosen_claim,
)
from model_store_tools.cli.options import JsonOption
from model_store_tools.cli.outputs import named, require_writable, write_json
from ptynet_plugin.errors import IntegrityError

if TYPE_CHECKING:
    from model_store_tools.registry import Copy

__all__ = ["show"]


def show(
    number: NumberArgument,
    *,
    registry: RegistryOption = DEFAULT_REGISTRY,
    claim: ClaimOption = None,
    check: Annotated[
        Path | None, typer.Option(metavar="CERT", help="Check this certificate.", show_default=False)
    ] = None,
    archive: Annotated[Path | None, typer.Option(help="Check this archive too.", show_default=False)] = None,
    key: Annotated[
        str | None, typer.Option(help="Owner key: check who signed, and the code word.", show_default=False)
    ] = None,
    json_: JsonOption = None,
) -> None:
    """Show a copy. With --check, --archive or --key: exit 1 where something is not what the registry says."""
    from model_store_tools.registry import Registry

    require_writable(named(json_))
    with Registry.open(registry) as opened:
        copy = opened.copy(chosen_claim(opened, claim), number)
    if json_ is not None:
        write_json(json_, json.dumps(copy.to_json(), indent=2, ensure_ascii=False) + "\n")
    else:
        for name, value in copy.to_json().items():
            if value is not None:
                typer.echo(f"{name:<16} {value}")
    checked = [*_check_certificate(copy, check, key), *_check_archive(copy, archive), *_check_countersignature(copy)]
    for line in checked:
        typer.echo(f"{'ok':<16} {line}", err=json_ is not None)
    if (left := _left_unchecked(check, key)) is not None:
        typer.echo(f"{'not checked':<16} {left}", err=json_ is not None)


def _check_certificate(copy: Copy, file: Path | None, key: str | None) -> list[str]:
    if file is None:
        return []
    from model_store_tools.certificates import read_certificate
    from ptynet_plugin.keyfile import read_key

    certificate = read_certificate(file)
    if certificate.digest != copy.certificate:
        raise IntegrityError(
            f"{file}: certificate {certificate.digest[:16]}... of copy {certificate.facts.number}, the registry has "
            f"{(copy.certificate or 'none')[:16]} for copy {copy.number}"
        )
    told = ["the certificate is the registered one and its signature holds"]
    if key is not None:
        certificate.require_owner(read_key(key).epoch_secret(certificate.facts.code.epoch))
        told.append("this key signed it, and its code word is the copy's")
    return told


def _left_unchecked(certificate: Path | None, key: str | None) -> str | None:
    """Name what was not compared: a certificate carries its signer's public key, so its own signature always tells."""
    if certificate is not None and key is None:
        return "who signed the certificate, and its code word: only --key OWNER.key tells the owner's from another's"
    if certificate is None and key is not None:
        return "--key is compared with a certificate's signer: give --check CERT as well"
    return None


def _check_archive(copy: Copy, archive: Path | None) -> list[str]:
    if archive is None:
        return []
    from ptynet_plugin.archives import archive_digest

    found = archive_digest(archive)
    if found != copy.digest:
        raise IntegrityError(
            f"{archive}: has digest {found}, the registry says {copy.digest or 'nothing'} for copy {copy.number}"
        )
    return ["the archive is the registered one"]


def _check_countersignature(copy: Copy) -> list[str]:
    if copy.countersigner is None or copy.countersignature is None:
        return []
    from model_store_tools.certificates import Countersignature

    made = Countersignature(
        claim=copy.claim,
        number=copy.number,
        archive=copy.digest or "",
        certificate=copy.certificate or "",
        public_key=copy.countersigner,
        signature=copy.countersignature,
    )
    if not made.holds():
        raise IntegrityError(
            f"copy {copy.number}: the countersignature in the registry does not hold; the registry was altered"
        )
    return ["the countersignature holds"]
