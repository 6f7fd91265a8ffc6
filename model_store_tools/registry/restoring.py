"""From checked certificates to the registry's rows."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from model_store_tools.certificates.restoring import Found, superseded
from model_store_tools.registry.records import Copy
from model_store_tools.registry.rows import now

__all__ = ["copies_from", "counters_from"]


def copies_from(found: Sequence[Found]) -> list[Copy]:
    """Give the copies these certificates speak of; one whose customer got a later one had been revoked."""
    later, at = superseded(found), now()
    return [_copy(each, later.get((each.certificate.facts.claim, each.certificate.facts.number)), at) for each in found]


def counters_from(found: Sequence[Found], highest: int) -> dict[str, int]:
    """Give per claim the highest number that counts as given.

    Args:
        found: Certified copies.
        highest: What the owner remembers, or 0.
    """
    top: dict[str, int] = {}
    for each in found:
        facts = each.certificate.facts
        top[facts.claim] = max(facts.number, highest, top.get(facts.claim, 0))
    return top


def _copy(found: Found, later: int | None, at: str) -> Copy:
    facts, answer = found.certificate.facts, found.countersignature
    return Copy(
        claim=facts.claim,
        number=facts.number,
        customer=facts.customer,
        ticket=secrets.token_hex(16),
        reserved_at=facts.issued,
        issued_at=facts.issued,
        archive=facts.archive.name,
        format=facts.archive.format,
        digest=facts.archive.digest,
        revoked_at=None if later is None else at,
        revoked_because=None if later is None else f"restored: its customer got copy {later} later",
        certificate=found.certificate.digest,
        countersigner=None if answer is None else answer.public_key,
        countersignature=None if answer is None else answer.signature,
        countersigned_at=None if answer is None else at,
    )
