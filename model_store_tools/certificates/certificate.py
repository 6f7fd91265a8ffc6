"""A copy's certificate: an in-toto statement over the archive in a DSSE envelope, signed with the claim's Ed25519 key.

It states what was given to whom, what a trace may do with it, and how strong the code is. The copy's code word stays secret: the
certificate holds a hiding commitment to it, so that in a dispute the owner can open the word and nobody can say that it was
chosen afterwards. `Certificate.require_owner` is that check.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptynet_plugin.claims.signing import signer
from ptynet_plugin.codes.tardos import CopyCode
from ptynet_plugin.errors import CertificateError, IntegrityError
from ptynet_plugin.evidence.envelope import open_envelope, seal_envelope, statement
from ptynet_plugin.keys import derive
from ptynet_plugin.symbols.encoding import tagged_digest

__all__ = ["EPS", "Certificate", "CodeFacts", "code_of", "make_certificate", "read_certificate", "word_commitment"]

PREDICATE = "urn:ptynet:copy-certificate:v1"
LARGEST = 1 << 20
EPS = 1e-6
"""Probability with which any innocent may ever be named, `ptynet trace --fwer`."""

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeFacts(_Strict):
    """The code of a copy's claim.

    Attributes:
        positions: Length of the code word.
        quick: Symbols that name a single leaker at once.
        coalition: c0, the number of colluders that the biases are made for.
        classes: C.
        salt: The claim's salt, from which with the key the code follows; 64 hex digits.
        epoch: Of the owner's key.
    """

    positions: int = Field(ge=8, le=1 << 16, multiple_of=8)
    quick: int = Field(ge=0, le=1 << 16)
    coalition: int = Field(ge=1, le=64)
    classes: int = Field(ge=2)
    salt: str = Sha256
    epoch: int = Field(ge=0)


class _Archive(_Strict):
    name: str = Field(min_length=1, max_length=1000)
    format: Literal["triton", "torchserve"]
    digest: str = Sha256


class _Predicate(_Strict):
    schema_: Literal["ptynet-copy-certificate/v1"] = Field(alias="schema")
    claim: str = Sha256
    number: int = Field(ge=1)
    customer: str = Field(min_length=1, max_length=200)
    issued: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z$")
    archive: _Archive
    code: CodeFacts
    word: str = Sha256
    eps: str = Field(pattern=r"^[0-9.e+-]{1,24}$")


@dataclass(frozen=True)
class Certificate:
    """A certificate whose signature holds.

    Attributes:
        octets: The envelope; the file's content.
        signer: Who signed it, 64 hex digits: whether that is the owner is the caller's question.
        facts: What it states.
    """

    octets: bytes = field(repr=False)
    signer: str
    facts: _Predicate

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.octets).hexdigest()

    @property
    def eps(self) -> float:
        """Probability with which any innocent customer may ever be named."""
        return float(self.facts.eps)

    @property
    def own_bound(self) -> float:
        """Probability with which this copy, were its customer innocent, may ever be named: eps / (i (i + 1))."""
        return self.eps / (self.facts.number * (self.facts.number + 1))

    def require_owner(self, secret: bytes) -> None:
        """Make sure that this key signed it and that the word it commits to is the copy's.

        Args:
            secret: `OwnerKey.epoch_secret` of the epoch that the certificate names.

        Raises:
            IntegrityError: Another key signed it, or the word is another.
        """
        if self.signer != signer(secret):
            raise IntegrityError(
                f"the certificate of copy {self.facts.number} was signed by {self.signer[:16]}..., not by this key"
            )
        if word_commitment(secret, self.facts.claim, self.facts.number, self.facts.code) != self.facts.word:
            raise IntegrityError(
                f"the certificate of copy {self.facts.number} commits to another code word than the key gives"
            )

    def require_archive(self, digest: str) -> None:
        """Make sure that an archive is the certified one.

        Raises:
            IntegrityError: It has another digest.
        """
        if digest != self.facts.archive.digest:
            raise IntegrityError(
                f"the archive has digest {digest}, the certificate of copy {self.facts.number} says {self.facts.archive.digest}"
            )


def make_certificate(
    *,
    secret: bytes,
    claim: str,
    number: int,
    customer: str,
    issued: str,
    archive: str,
    format: str,
    digest: str,
    code: CodeFacts,
    eps: float = EPS,
) -> Certificate:
    """Certify a copy; the same facts give the same octets.

    Args:
        secret: The epoch's secret.
        claim: Digest of the claim.
        number: The copy's number.
        customer: Who gets it.
        issued: When, UTC, ISO 8601.
        archive: Name of the archive.
        format: "triton" or "torchserve".
        digest: The archive's digest.
        code: The claim's code.
        eps: What every trace promises: the probability with which any innocent is ever named.
    """
    predicate = {
        "schema": "ptynet-copy-certificate/v1",
        "claim": claim,
        "number": number,
        "customer": customer,
        "issued": issued,
        "archive": {"name": archive, "format": format, "digest": digest},
        "code": code.model_dump(),
        "word": word_commitment(secret, claim, number, code),
        "eps": repr(eps),
    }
    sealed = seal_envelope(statement({archive: digest}, predicate, kind=PREDICATE), secret=secret)
    return _opened(sealed, where="the new certificate")


def read_certificate(path: Path) -> Certificate:
    """Read a certificate.

    Raises:
        CertificateError: It cannot be read.
        IntegrityError: It is none, or was altered.
    """
    return _opened(read_small(path), where=str(path))


def read_small(path: Path) -> bytes:
    """Read a file of at most 1 MiB.

    Raises:
        CertificateError: It cannot be read or is longer.
    """
    try:
        with path.open("rb") as file:
            octets = file.read(LARGEST + 1)
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read ({error.strerror})") from None
    if len(octets) > LARGEST:
        raise CertificateError(f"{path}: longer than {LARGEST} bytes, which no certificate is")
    return octets


def word_commitment(secret: bytes, claim: str, number: int, code: CodeFacts) -> str:
    """Commit to a copy's code word without telling it: 64 hex digits."""
    blind = derive(secret, "copy-word-blind/v1", bytes.fromhex(claim), number)
    return tagged_digest("copy-word/v1", blind, code_of(secret, claim, code).words(number, 1)[0].tobytes()).hex()


def code_of(secret: bytes, claim: str, code: CodeFacts) -> CopyCode:
    """Derive a claim's code from the key, as `claims.copies.CopyTables.code` does from the claim."""
    seed = derive(secret, "copy-code/v1", bytes.fromhex(claim), bytes.fromhex(code.salt))
    return CopyCode(seed, positions=code.positions, coalition=code.coalition)


def _opened(octets: bytes, *, where: str) -> Certificate:
    content, public = open_envelope(octets, kind=PREDICATE, where=where)
    try:
        facts = _Predicate.model_validate(content["predicate"])
    except (KeyError, ValidationError) as error:
        reason = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else "empty"
        raise IntegrityError(f"{where}: is no certificate of a kind this version knows ({reason})") from None
    if content != statement({facts.archive.name: facts.archive.digest}, content["predicate"], kind=PREDICATE):
        raise IntegrityError(f"{where}: its subject is not the archive that it certifies")
    return Certificate(octets, public, facts)
