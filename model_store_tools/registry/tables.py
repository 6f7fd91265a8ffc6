"""The registry's tables.

One registry belongs to one owner key and holds the copies of any number of claims. Rows of copies and traces are never
deleted: a number that was given out once counts in every later trace. Times are text, UTC, `2026-11-24T08:21:00.123456Z`:
the same octets in the table, on the certificate and in an export, in both databases.

`customer` is personal data where the customer is a person; no other column is.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "ClaimRow", "CopyRow", "OwnerRow", "TraceRow"]

DIGEST, TIME = String(64), String(32)


class Base(DeclarativeBase):
    """All names begin with `ptynet_`: a PostgreSQL database may hold other things beside the registry."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class OwnerRow(Base):
    """Whose registry this is: exactly one row."""

    __tablename__ = "ptynet_owner"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(DIGEST)
    """Commitment to the owner key."""
    created_at: Mapped[str] = mapped_column(TIME)

    __table_args__ = (CheckConstraint("id = 1", name="one"),)


class ClaimRow(Base):
    """The counters of one claim; its row is the lock under which numbers are given out."""

    __tablename__ = "ptynet_claims"

    digest: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    copies: Mapped[int] = mapped_column(default=0)
    """The highest number ever given to a copy."""
    traces: Mapped[int] = mapped_column(default=0)
    """The highest number ever given to a trace."""


class CopyRow(Base):
    """One number, given to one customer for ever."""

    __tablename__ = "ptynet_copies"

    claim: Mapped[str] = mapped_column(ForeignKey("ptynet_claims.digest"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer: Mapped[str] = mapped_column(Text)
    ticket: Mapped[str] = mapped_column(String(32))
    """Who may complete the reservation: taken over, an older holder's ticket no longer fits."""
    reserved_at: Mapped[str] = mapped_column(TIME)
    issued_at: Mapped[str | None] = mapped_column(TIME)
    archive: Mapped[str | None] = mapped_column(Text)
    format: Mapped[str | None] = mapped_column(String(32))
    digest: Mapped[str | None] = mapped_column(DIGEST)
    revoked_at: Mapped[str | None] = mapped_column(TIME)
    revoked_because: Mapped[str | None] = mapped_column(Text)
    certificate: Mapped[str | None] = mapped_column(DIGEST)
    """SHA-256 of the certificate."""
    countersigner: Mapped[str | None] = mapped_column(DIGEST)
    """The customer's public key."""
    countersignature: Mapped[str | None] = mapped_column(String(128))
    countersigned_at: Mapped[str | None] = mapped_column(TIME)

    __table_args__ = (
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint(
            "(issued_at IS NULL) = (digest IS NULL) AND (issued_at IS NULL) = (archive IS NULL)", name="issued_whole"
        ),
        CheckConstraint("(revoked_at IS NULL) = (revoked_because IS NULL)", name="revoked_whole"),
        Index(
            "ix_ptynet_copies_one_per_customer",
            "claim",
            "customer",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )


class TraceRow(Base):
    """One trace, numbered before its first question; abandoned ones keep their number."""

    __tablename__ = "ptynet_traces"

    claim: Mapped[str] = mapped_column(ForeignKey("ptynet_claims.digest"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    endpoint: Mapped[str] = mapped_column(Text)
    started_at: Mapped[str] = mapped_column(TIME)
    finished_at: Mapped[str | None] = mapped_column(TIME)
    verdict: Mapped[str | None] = mapped_column(String(32))
    accused: Mapped[str | None] = mapped_column(Text)
    """Numbers of the copies it named, strongest first, as a JSON list."""

    __table_args__ = (CheckConstraint("number >= 1", name="number"),)
