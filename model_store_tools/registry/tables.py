"""The registry's tables.

One registry belongs to one owner key and holds the copies of any number of claims. Rows of copies and traces are never
deleted: a number that was given out once counts in every later trace. Times are text, UTC, `2026-11-24T08:21:00.123456Z`:
the same octets in the table, on the certificate and in an export, in both databases.

`customer` is personal data where the customer is a person; no other column is. All names begin with `ptynet_`: a PostgreSQL
database may hold other things beside the registry.

Tables and no mapped classes: SQLAlchemy's ORM takes as long to load as 100,000 rows to read, and its identity map serves nobody
who goes through rows once.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

__all__ = ["CLAIMS", "COPIES", "METADATA", "OWNER", "TRACES", "whole_metadata"]

DIGEST, TIME = String(64), String(32)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

OWNER = Table(
    "ptynet_owner",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("owner", DIGEST, nullable=False),  # commitment to the owner key
    Column("created_at", TIME, nullable=False),
    CheckConstraint("id = 1", name="one"),
)
"""Whose registry this is: exactly one row."""

CLAIMS = Table(
    "ptynet_claims",
    METADATA,
    Column("digest", DIGEST, primary_key=True),
    Column("copies", Integer, nullable=False, default=0),  # the highest number ever given to a copy
    Column("traces", Integer, nullable=False, default=0),  # the highest number ever given to a trace
)
"""The counters of one claim; its row is the lock under which numbers are given out."""

COPIES = Table(
    "ptynet_copies",
    METADATA,
    Column("claim", ForeignKey("ptynet_claims.digest"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("customer", Text, nullable=False),
    Column("ticket", String(32), nullable=False),  # who may complete the reservation; a new one when it is taken over
    Column("reserved_at", TIME, nullable=False),
    Column("issued_at", TIME),
    Column("archive", Text),
    Column("format", String(32)),
    Column("digest", DIGEST),
    Column("revoked_at", TIME),
    Column("revoked_because", Text),
    Column("certificate", DIGEST),  # SHA-256 of the certificate
    Column("countersigner", DIGEST),  # the customer's public key
    Column("countersignature", String(128)),
    Column("countersigned_at", TIME),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint(
        "(issued_at IS NULL) = (digest IS NULL) AND (issued_at IS NULL) = (archive IS NULL)", name="issued_whole"
    ),
    CheckConstraint("(revoked_at IS NULL) = (revoked_because IS NULL)", name="revoked_whole"),
)
"""One number, given to one customer for ever."""

TRACES = Table(
    "ptynet_traces",
    METADATA,
    Column("claim", ForeignKey("ptynet_claims.digest"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("endpoint", Text, nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column("verdict", String(32)),
    Column("accused", Text),  # numbers of the copies it named, strongest first, as a JSON list
    CheckConstraint("number >= 1", name="number"),
)
"""One trace, numbered before its first question; abandoned ones keep their number."""

_ONE_PER_CUSTOMER = "ix_ptynet_copies_one_per_customer"


def whole_metadata() -> MetaData:
    """Give the tables with the index of one valid copy per customer: what the migrations make.

    Nothing that asks the database needs it, and an index of rows that fulfil a condition loads both databases' dialects.
    """
    if not any(index.name == _ONE_PER_CUSTOMER for index in COPIES.indexes):
        valid = text("revoked_at IS NULL")
        Index(
            _ONE_PER_CUSTOMER,
            COPIES.c.claim,
            COPIES.c.customer,
            unique=True,
            sqlite_where=valid,
            postgresql_where=valid,
        )
    return METADATA
