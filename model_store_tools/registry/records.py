"""What the registry hands out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

__all__ = ["PUBLIC_FIELDS", "Copy", "Trace"]


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of one claim.

    Attributes:
        claim: Digest of the claim, 64 hex digits.
        number: i, from 1 within the claim, never given twice; the copy's code word is a function of the key and i.
        customer: Who it is for.
        ticket: Entitles its holder to complete the reservation, until somebody takes it over.
        reserved_at: When the number was given; times are UTC, ISO 8601.
        issued_at: When the archive was registered; None while it is only reserved.
        archive: Name of the archive.
        format: "triton" or "torchserve".
        digest: Digest of the archive, 64 hex digits.
        revoked_at: When it was revoked; None for a valid copy. A revoked copy is traced like any other.
        revoked_because: Why.
        certificate: SHA-256 of its certificate.
        countersigner: The public key with which its customer countersigned, 64 hex digits.
        countersignature: The signature, 128 hex digits.
        countersigned_at: When it was accepted.
    """

    claim: str
    number: int
    customer: str
    ticket: str = field(repr=False)
    reserved_at: str
    issued_at: str | None = None
    archive: str | None = None
    format: str | None = None
    digest: str | None = None
    revoked_at: str | None = None
    revoked_because: str | None = None
    certificate: str | None = None
    countersigner: str | None = None
    countersignature: str | None = None
    countersigned_at: str | None = None

    @property
    def state(self) -> Literal["reserved", "issued"]:
        """Whether the copy's archive was registered."""
        return "reserved" if self.issued_at is None else "issued"

    def to_json(self) -> dict[str, Any]:
        """Give what may be shown: all but the ticket."""
        return {name: getattr(self, name) for name in PUBLIC_FIELDS}


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace of one claim.

    Attributes:
        claim: Digest of the claim, 64 hex digits.
        number: t, from 1 within the claim; the threshold of an accusation grows with it.
        endpoint: Whom it asked, without credentials.
        started_at: When it was registered, before its first question.
        finished_at: None while it runs, and for ever where it was abandoned.
        verdict: How it ended.
        accused: Numbers of the copies it named, strongest first.
    """

    claim: str
    number: int
    endpoint: str
    started_at: str
    finished_at: str | None = None
    verdict: str | None = None
    accused: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as an object."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


PUBLIC_FIELDS = tuple(each.name for each in fields(Copy) if each.name != "ticket")
"""What of a copy may be shown and exported."""
