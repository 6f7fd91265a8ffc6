"""The questions and changes that the registry's transactions are made of."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Connection, bindparam, func, select, text, update

from model_store_tools.registry.records import Copy
from model_store_tools.registry.tables import CLAIMS, COPIES

__all__ = [
    "AT_ONCE",
    "COPY_COLUMNS",
    "active_copies",
    "change_copy",
    "complete_reserved",
    "find_copy",
    "first_twice",
    "fresh_row",
    "locked_counter",
    "now",
    "take_over",
]

AT_ONCE = 500
"""Customers per question, and rows per fetch."""

COPY_COLUMNS = tuple(COPIES.c[each.name] for each in fields(Copy))
"""In the order of `Copy`."""


def locked_counter(connection: Connection, claim: str, counter: Column[int]) -> int:
    """Lock a claim's row until the transaction ends, make it where there is none, and read one of its counters.

    SQLite has locked the whole file by then and knows no FOR UPDATE.
    """
    new = text("INSERT INTO ptynet_claims (digest, copies, traces) VALUES (:digest, 0, 0) ON CONFLICT DO NOTHING")
    connection.execute(new, {"digest": claim})
    return int(connection.scalar(select(counter).where(CLAIMS.c.digest == claim).with_for_update()) or 0)


def active_copies(connection: Connection, claim: str, customers: Sequence[str]) -> dict[str, Copy]:
    """Find the copies these customers have that are not revoked, by customer, and keep others from changing them."""
    found: dict[str, Copy] = {}
    for start in range(0, len(customers), AT_ONCE):
        some = customers[start : start + AT_ONCE]
        asked = select(*COPY_COLUMNS).where(
            COPIES.c.claim == claim, COPIES.c.customer.in_(some), COPIES.c.revoked_at.is_(None)
        )
        copies = (Copy(*row) for row in connection.execute(asked.with_for_update()))
        found |= {copy.customer: copy for copy in copies}
    return found


def take_over(connection: Connection, copy: Copy) -> Copy:
    """Give an abandoned reservation another ticket, so that whoever held the old one cannot complete it any more."""
    ticket = secrets.token_hex(16)
    change_copy(connection, copy.claim, copy.number, ticket=ticket)
    return Copy(copy.claim, copy.number, copy.customer, ticket, copy.reserved_at)


def find_copy(connection: Connection, claim: str, number: int, *, lock: bool = False) -> Copy | None:
    """Read one copy; with `lock` nobody else changes it until the transaction ends."""
    asked = select(*COPY_COLUMNS).where(COPIES.c.claim == claim, COPIES.c.number == number)
    row = connection.execute(asked.with_for_update() if lock else asked).first()
    return None if row is None else Copy(*row)


def change_copy(connection: Connection, claim: str, number: int, **values: str) -> None:
    """Set columns of one copy."""
    connection.execute(update(COPIES).where(COPIES.c.claim == claim, COPIES.c.number == number).values(**values))


def complete_reserved(
    connection: Connection, values: Sequence[dict[str, str | int]], *, issued_at: str, format: str
) -> int:
    """Turn open reservations into issued copies.

    "Not revoked" is not written as IS NULL here: PostgreSQL would then take the index of one copy per customer, of which the
    claim alone fits, and read all the claim's copies for each.

    Args:
        connection: In a writing transaction.
        values: `at_claim`, `at_number`, `at_ticket`, `archive` and `digest` of each.
        issued_at: When.
        format: Of all archives.

    Returns:
        How many were open.
    """
    change = (
        update(COPIES)
        .where(
            COPIES.c.claim == bindparam("at_claim"),
            COPIES.c.number == bindparam("at_number"),
            COPIES.c.ticket == bindparam("at_ticket"),
            COPIES.c.issued_at.is_(None),
            func.coalesce(COPIES.c.revoked_at, "") == "",
        )
        .values(archive=bindparam("archive"), digest=bindparam("digest"), issued_at=issued_at, format=format)
    )
    return int(connection.execute(change, list(values)).rowcount)


def fresh_row(claim: str, number: int, customer: str, reserved_at: str) -> dict[str, Any]:
    """Give the row of a new reservation."""
    ticket = secrets.token_hex(16)
    return {"claim": claim, "number": number, "customer": customer, "ticket": ticket, "reserved_at": reserved_at}


def first_twice(names: Iterable[str]) -> str | None:
    """Give the first name that stands there a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def now() -> str:
    """Give the time as it stands in the tables."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
