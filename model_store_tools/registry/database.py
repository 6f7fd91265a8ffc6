"""A database in transactions: every block of work takes effect whole or not at all, whoever is killed meanwhile.

SQLite writers take the file's write lock when they begin (BEGIN IMMEDIATE), so that what they read cannot change before they
write; PostgreSQL writers lock the row of their claim. Whatever goes wrong leaves as one `RegistryError` without parameters
(they are customers' names) and without the address (it may hold a password).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from model_store_tools.registry.address import Address
from ptynet_plugin.errors import RegistryError

__all__ = ["Database"]

PATIENCE = 60
"""Seconds that a writer waits for the writers before it."""
CONNECT_SECONDS = 10
WRITES = "ptynet_writes"
LONGEST_REASON = 300


class Database:
    """Connections to one registry's database.

    Args:
        address: Where it lies.
        create: Make an SQLite file that does not exist yet, mode 0600.

    Raises:
        RegistryError: There is no such file, it cannot be made, or a driver is missing.
    """

    def __init__(self, address: Address, *, create: bool) -> None:
        self.address = address
        if address.file is not None:
            _require_file(address, create=create)
        try:
            self._engine = _engine(address)
        except ImportError:
            raise RegistryError(
                f"{address.shown}: PostgreSQL needs psycopg: pip install 'ptynet-plugin[registry]'"
            ) from None

    @property
    def is_postgresql(self) -> bool:
        """Whether statements of PostgreSQL alone may be used."""
        return self.address.file is None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one state and changes nothing."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that is committed when the block ends, and undone when it raises.

        Raises:
            RegistryError: The database cannot be reached, is busy for too long, full, read-only or broken.
        """
        with self._translated(), self._engine.connect() as connection:
            writer = connection.execution_options(**{WRITES: True})
            with writer.begin():
                if self.is_postgresql:
                    writer.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
                yield writer

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise RegistryError(_explained(error, self.address)) from None
        except SQLAlchemyError as error:
            raise RegistryError(f"{self.address.shown}: cannot be used ({type(error).__name__})") from None


def _engine(address: Address) -> Engine:
    if address.file is not None:
        engine = create_engine(address.url, connect_args={"timeout": PATIENCE}, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # Idle for the minutes a model takes to package, a connection may be gone: it is tried before it is used. No prepared
    # statements, for poolers that give each transaction another session.
    options = {"connect_timeout": CONNECT_SECONDS, "prepare_threshold": None}
    return create_engine(address.url, connect_args=options, pool_pre_ping=True, hide_parameters=True)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # Python's own BEGIN comes too late: before the first write, not before the reads
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _require_file(address: Address, *, create: bool) -> None:
    assert address.file is not None
    file = address.file
    if file.exists():
        if not file.is_file():
            raise RegistryError(f"{file}: is no file; a registry is one file, give its name: sqlite:///FILE")
        return
    if not create:
        raise RegistryError(f"{file}: no such registry; `ptynet copies issue` makes it, or name it with --registry")
    try:
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise RegistryError(f"{file}: cannot be made ({error.strerror}); name a folder that can be written") from None


def _explained(error: DBAPIError, address: Address) -> str:
    """Say what went wrong and what to do, in one line."""
    reason = _first_line(error, address)
    told = reason.lower()
    if "not a database" in told or "malformed" in told:
        return f"{address.shown}: not an SQLite database, or damaged ({reason}); name the registry's file or restore a backup"
    if "readonly" in told or "unable to open" in told or "read-only" in told:
        return f"{address.shown}: cannot be written ({reason}); the file and its folder must be writable"
    if "is locked" in told or "lock timeout" in told:
        return f"{address.shown}: busy for {PATIENCE} s with another process's work; run it again"
    return (
        f"{address.shown}: the database does not do its work ({reason}); what was not confirmed is undone, look into it and "
        "run again"
    )


def _first_line(error: DBAPIError, address: Address) -> str:
    lines = str(error.orig).strip().splitlines()
    reason = (lines[0] if lines else type(error.orig).__name__)[:LONGEST_REASON]
    password = address.url.password
    return reason.replace(password, "***") if password else reason
