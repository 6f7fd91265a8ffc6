"""`ptynet copies countersign`: the customer signs for what he got; the owner files the signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_store_tools.cli.copies.opening import DEFAULT_REGISTRY, RegistryOption
from model_store_tools.cli.outputs import require_writable, write_whole
from ptynet_plugin.errors import IntegrityError, UsageError

__all__ = ["countersign"]


def countersign(
    certificate: Annotated[
        Path | None, typer.Argument(metavar="[CERT]", help="The certificate to sign for.", show_default=False)
    ] = None,
    *,
    customer_key: Annotated[
        Path | None, typer.Option(help="The customer's Ed25519 key, PEM.", show_default=False)
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="The archive that came with it; its digest is checked.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; beside the certificate where not said.", show_default=False)
    ] = None,
    accept: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The owner: file this countersignature.", show_default=False)
    ] = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> None:
    """Sign a certificate with --customer-key (no registry, no owner key), or file what a customer signed with --accept."""
    if accept is not None and certificate is None and customer_key is None:
        _accept(accept, registry)
    elif accept is None and certificate is not None and customer_key is not None:
        _sign(certificate, customer_key, archive, out)
    else:
        raise UsageError("give CERT and --customer-key to sign, or --accept FILE and --registry to file a signature")


def _sign(path: Path, key: Path, archive: Path | None, out: Path | None) -> None:
    from model_store_tools.certificates import countersign as sign
    from model_store_tools.certificates import read_certificate, read_customer_key
    from model_store_tools.certificates.restoring import CERTIFICATE, COUNTERSIGNATURE

    target = out or path.with_name(path.name.removesuffix(CERTIFICATE).removesuffix(".json") + COUNTERSIGNATURE)
    require_writable(target)
    certificate = read_certificate(path)
    if archive is None:
        typer.echo("warning: the archive was not looked at; give --archive to sign for what you hold", err=True)
    else:
        from ptynet_plugin.archives import archive_digest

        certificate.require_archive(archive_digest(archive))
    made = sign(certificate, read_customer_key(key))
    write_whole(target, made.octets().decode())
    facts = certificate.facts
    typer.echo(f"signed for archive {facts.archive.digest}, copy {facts.number}, customer {facts.customer}", err=True)
    typer.echo(f"public key {made.public_key}: tell it to the owner by another way than this file", err=True)
    typer.echo(str(target))


def _accept(path: Path, registry: str) -> None:
    from model_store_tools.certificates import read_countersignature
    from model_store_tools.registry import Registry

    made = read_countersignature(path)
    with Registry.open(registry) as opened:
        copy = opened.copy(made.claim, made.number)
        if (copy.digest, copy.certificate) != (made.archive, made.certificate):
            raise IntegrityError(
                f"{path}: signed certificate {made.certificate[:16]}... over archive {made.archive[:16]}..., the registry has "
                f"{(copy.certificate or 'none')[:16]} over {(copy.digest or 'none')[:16]} for copy {copy.number}"
            )
        opened.countersign(made.claim, made.number, public_key=made.public_key, signature=made.signature)
    typer.echo(f"copy {copy.number} of {copy.customer} is countersigned with the key {made.public_key}")
    typer.echo("make sure by another way that this key is the customer's", err=True)
