"""The customer's answer to a certificate: an Ed25519 signature over the digests of archive and certificate.

The owner could issue a copy a second time and frame its customer. With a countersignature he cannot: the customer signed which
octets he got, before anything leaked, with a key that the owner never had. Made without registry and without the owner's key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_store_tools.certificates.certificate import Certificate, Sha256, read_small
from ptynet_plugin.claims.canonical import canonical_json, parse_json
from ptynet_plugin.claims.signing import is_signed_by
from ptynet_plugin.errors import CertificateError, ClaimError, IntegrityError
from ptynet_plugin.keyfile import read_private
from ptynet_plugin.symbols.encoding import tagged_digest

__all__ = ["Countersignature", "countersign", "read_countersignature", "read_customer_key"]


class Countersignature(BaseModel):
    """What the customer sends back.

    Attributes:
        schema_: Kind and version of this file.
        claim: Digest of the claim.
        number: The copy's.
        archive: Digest of the archive.
        certificate: SHA-256 of the certificate's file.
        public_key: Of the customer, 64 hex digits.
        signature: 128 hex digits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["ptynet-countersignature/v1"] = Field(default="ptynet-countersignature/v1", alias="schema")
    claim: str = Sha256
    number: int = Field(ge=1)
    archive: str = Sha256
    certificate: str = Sha256
    public_key: str = Sha256
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def octets(self) -> bytes:
        """Give the file's content."""
        return canonical_json(self.model_dump(by_alias=True)) + b"\n"

    def holds(self) -> bool:
        """Tell whether the signature is this key's over these digests."""
        message = _message(self.claim, self.number, self.archive, self.certificate)
        return is_signed_by(self.public_key, bytes.fromhex(self.signature), message)

    def require_fits(self, certificate: Certificate) -> None:
        """Make sure that it answers this certificate.

        Raises:
            IntegrityError: It is over another certificate or archive, or the signature does not hold.
        """
        if (self.certificate, self.archive) != (certificate.digest, certificate.facts.archive.digest):
            raise IntegrityError(
                f"the countersignature is over certificate {self.certificate[:16]}..., this one is {certificate.digest[:16]}..."
            )
        if not self.holds():
            raise IntegrityError(
                f"the countersignature of copy {self.number} does not hold: another key signed, or it was altered"
            )


def countersign(certificate: Certificate, key: Ed25519PrivateKey) -> Countersignature:
    """Sign for the receipt of an archive under a certificate."""
    facts = certificate.facts
    message = _message(facts.claim, facts.number, facts.archive.digest, certificate.digest)
    return Countersignature(
        claim=facts.claim,
        number=facts.number,
        archive=facts.archive.digest,
        certificate=certificate.digest,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(message).hex(),
    )


def read_countersignature(path: Path) -> Countersignature:
    """Read a countersignature whose signature holds.

    Raises:
        CertificateError: The file cannot be read.
        IntegrityError: It is none, or the signature does not hold.
    """
    try:
        made = Countersignature.model_validate(parse_json(read_small(path), where=str(path)))
    except (ClaimError, ValidationError):
        raise IntegrityError(f"{path}: is no countersignature; `ptynet copies countersign CERT` makes one") from None
    if not made.holds():
        raise IntegrityError(f"{path}: the countersignature of copy {made.number} does not hold; it was altered")
    return made


def read_customer_key(path: Path) -> Ed25519PrivateKey:
    """Read a customer's private key: Ed25519, PEM, without a passphrase.

    Raises:
        KeyFileError: It cannot be read, or lies open to others.
        CertificateError: It is no such key.
    """
    advice = "make one with: openssl genpkey -algorithm ed25519 -out customer.pem"
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        locked = "it has a passphrase" if isinstance(error, TypeError) else "not a private key in PEM"
        raise CertificateError(f"{path}: {locked}; {advice}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"{path}: is no Ed25519 key; {advice}")
    return key


def _message(claim: str, number: int, archive: str, certificate: str) -> bytes:
    return tagged_digest(
        "countersignature/v1", bytes.fromhex(claim), number, bytes.fromhex(archive), bytes.fromhex(certificate)
    )
