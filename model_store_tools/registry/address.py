"""Where a registry lies: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.

An address may hold a password. Messages name a registry by `Address.shown`, which holds neither user, password nor options, and
never repeat an address that could not be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ptynet_plugin.errors import RegistryError

__all__ = ["Address", "parse_address"]

EXPECTED = "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True)
class Address:
    """A parsed address of a registry.

    Attributes:
        url: For SQLAlchemy, driver included.
        shown: For messages and logs.
        file: The database file of SQLite, or None.
    """

    url: URL = field(repr=False)
    shown: str
    file: Path | None


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        RegistryError: Malformed, or another kind of database; the message does not repeat the address.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise RegistryError(f"the registry's address cannot be read; {EXPECTED}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(url)
    if url.drivername in POSTGRESQL:
        return _postgresql(url)
    raise RegistryError(f"a registry lies in SQLite or PostgreSQL, not in {url.drivername[:40]!r}; {EXPECTED}")


def _sqlite(url: URL) -> Address:
    if url.host or url.username or url.password:
        raise RegistryError(
            "an SQLite registry has no host: sqlite:///FILE takes three slashes, four before an absolute path"
        )
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:") or url.query:
        raise RegistryError("an SQLite registry is a file, named without options: sqlite:///FILE")
    file = Path(name).expanduser()
    return Address(url=URL.create("sqlite", database=str(file)), shown=str(file), file=file)


def _postgresql(url: URL) -> Address:
    if not url.database:
        raise RegistryError("the registry's address names no database; expected postgresql://USER@HOST/DATABASE")
    host = url.host or url.query.get("host") or "local"
    port = f":{url.port}" if url.port else ""
    named = host if isinstance(host, str) else ",".join(host)
    return Address(
        url=url.set(drivername="postgresql+psycopg"), shown=f"postgresql://{named}{port}/{url.database}", file=None
    )
