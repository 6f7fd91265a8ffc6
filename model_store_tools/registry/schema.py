"""The schema's version: made when a registry is new, brought up to date when it is old, refused when it is newer.

Every opening compares one row with `HEAD`; Alembic is loaded only where there is something to do. All steps to the newest
version are one transaction, in SQLite too: killed in the middle, the registry is what it was.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert, inspect, text

from model_store_tools.registry.database import Database
from model_store_tools.registry.rows import now
from model_store_tools.registry.tables import OWNER
from ptynet_plugin.errors import RegistryError

__all__ = ["HEAD", "VERSIONS", "VERSION_TABLE", "bring_up_to_date", "version_of"]

VERSION_TABLE = "ptynet_schema"
VERSIONS = ("0001", "0002")
"""All versions, oldest first; a test holds this against the migrations."""
HEAD = VERSIONS[-1]

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x7074796E6574  # "ptynet": the number of PostgreSQL's advisory lock under which a schema changes


def version_of(connection: Connection, shown: str) -> str | None:
    """Give the version of the schema, None where there is no registry yet.

    Raises:
        RegistryError: The schema is newer than this program.
    """
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    if found is not None and found not in VERSIONS:
        raise RegistryError(
            f"{shown}: the registry has schema {found}, this version of ptynet knows {HEAD} and older; update ptynet"
        )
    return None if found is None else str(found)


def bring_up_to_date(database: Database, *, owner: str | None) -> None:
    """Make the newest schema out of whatever is there.

    Args:
        database: The registry's.
        owner: Whose a new registry is; None where none may be made.

    Raises:
        RegistryError: There is none and none may be made, its schema is newer, or the file holds something else.
    """
    shown = database.address.shown
    with database.reading() as connection:
        if version_of(connection, shown) == HEAD:
            return
    with database.writing() as connection:
        if database.is_postgresql:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        found = version_of(connection, shown)
        if found is None:
            _require_new(connection, database, create=owner is not None)
        if found != HEAD:
            _upgrade(connection)
        if found is None:
            connection.execute(insert(OWNER).values(id=1, owner=owner, created_at=now()))


def _require_new(connection: Connection, database: Database, *, create: bool) -> None:
    shown = database.address.shown
    if not create:
        raise RegistryError(f"{shown}: holds no registry; `ptynet copies issue` makes one")
    others = inspect(connection).get_table_names()
    if others and not database.is_postgresql:
        raise RegistryError(
            f"{shown}: holds other tables ({others[0]}, ...) and no registry; give the registry a file of its own"
        )


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 -- a registry that is up to date opens without it
    from alembic.config import Config  # noqa: PLC0415 -- only where the schema is not current

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
