"""What a registry holds: single copies, all of them, the lines of a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, case, cast, func, literal, select

from model_store_tools.registry.base import OnDatabase
from model_store_tools.registry.names import checked_claim, checked_customer
from model_store_tools.registry.records import Copy
from model_store_tools.registry.rows import AT_ONCE, COPY_COLUMNS
from model_store_tools.registry.tables import CLAIMS, COPIES

__all__ = ["Looking"]

WIDTH = 7
"""Of the numbers in a list; longer ones are written out."""
LINES_AT_ONCE = 5000


class Looking(OnDatabase):
    """Changes nothing."""

    def copy(self, claim: str, number: int) -> Copy:
        """Give one copy.

        Raises:
            RegistryError: No copy has that number.
        """
        with self._database.reading() as connection:
            return self._required(connection, checked_claim(claim), number)

    def copies(
        self, claim: str | None = None, *, customer: str | None = None, revoked: bool | None = None
    ) -> Iterator[Copy]:
        """Go through the copies, by claim and number, in bounded memory.

        Args:
            claim: Only of this claim.
            customer: Only of this customer.
            revoked: Only those that are revoked (True) or are not (False).
        """
        asked = _narrowed(select(*COPY_COLUMNS), claim, customer, revoked)
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=AT_ONCE).execute(asked):
                yield Copy(*row)

    def lines(
        self, claim: str | None = None, *, customer: str | None = None, revoked: bool | None = None
    ) -> Iterator[str]:
        """Go through the copies as `copies` does, as text for people: many lines at a time, put together by the database.

        Yields:
            Whole lines: `claim DIGEST` before the copies of a claim; number, state, day, customer, archive of each copy.
        """
        with self._database.reading() as connection:
            streaming = connection.execution_options(yield_per=LINES_AT_ONCE)
            for each in [claim] if claim is not None else self._claims(connection):
                heading = f"claim {each}\n"
                asked = _narrowed(select(_line()), each, customer, revoked)
                for some in streaming.execute(asked).scalars().partitions():
                    yield heading + "".join(some)
                    heading = ""

    def count(self, claim: str) -> int:
        """Give the highest number ever given to a copy of a claim; 0 where there is none."""
        with self._database.reading() as connection:
            return connection.scalar(select(CLAIMS.c.copies).where(CLAIMS.c.digest == checked_claim(claim))) or 0

    def claims(self) -> list[str]:
        """Give the digests of all claims that have copies or traces."""
        with self._database.reading() as connection:
            return self._claims(connection)

    @staticmethod
    def _claims(connection: Connection) -> list[str]:
        return list(connection.scalars(select(CLAIMS.c.digest).order_by(CLAIMS.c.digest)))


def _narrowed(
    asked: Select[*tuple[Any, ...]], claim: str | None, customer: str | None, revoked: bool | None
) -> Select[*tuple[Any, ...]]:
    if claim is not None:
        asked = asked.where(COPIES.c.claim == checked_claim(claim))
    if customer is not None:
        asked = asked.where(COPIES.c.customer == checked_customer(customer))
    if revoked is not None:
        asked = asked.where(COPIES.c.revoked_at.is_not(None) if revoked else COPIES.c.revoked_at.is_(None))
    return asked.order_by(COPIES.c.claim, COPIES.c.number)


def _line() -> ColumnElement[str]:
    """Give the line of a copy, in functions that both databases have."""
    copy = COPIES.c
    number = cast(copy.number, Text)
    shorter = case((copy.number < 10 ** (WIDTH - 1), func.length(number)), else_=WIDTH)
    state = case(
        (copy.revoked_at.is_not(None), " revoked  "), (copy.issued_at.is_not(None), " issued   "), else_=" reserved "
    )
    return (
        func.substr(literal(" " * (WIDTH - 1)).concat(number), shorter)
        .concat(state)
        .concat(func.substr(func.coalesce(copy.issued_at, copy.reserved_at), 1, len("2026-11-24")))
        .concat(literal(" ").concat(copy.customer).concat("  ").concat(func.coalesce(copy.archive, "")))
        .concat(case((copy.countersigner.is_(None), "\n"), else_=" countersigned\n"))
    )
