"""An open registry: copies and traces in one database; see the package's docstring for a session."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sqlalchemy import select

from model_store_tools.registry.address import parse_address
from model_store_tools.registry.changing import Changing
from model_store_tools.registry.database import Database
from model_store_tools.registry.issuing import Issuing
from model_store_tools.registry.looking import Looking
from model_store_tools.registry.names import checked_digest
from model_store_tools.registry.schema import bring_up_to_date
from model_store_tools.registry.tables import OWNER
from model_store_tools.registry.traces import Traces
from ptynet_plugin.errors import RegistryError

__all__ = ["Registry"]


class Registry(Issuing, Looking, Changing, Traces):
    """An open registry; a context manager. Made by `Registry.open`.

    Every method is one transaction and may be called from many processes at once. All raise `RegistryError` where the
    database cannot be used.
    """

    @classmethod
    def open(cls, url: str, *, owner: str | None = None, create: bool = True) -> Self:
        """Open a registry; make it where there is none and an owner is given.

        Args:
            url: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.
            owner: `OwnerKey.fingerprint` of the key it must belong to. None opens any existing one, to look at it.
            create: Whether one is made where there is none; whoever only reads asks for False, lest a mistyped name makes one.

        Raises:
            RegistryError: Malformed address, no registry and none to be made, another owner's, a newer schema, or the database
                cannot be used. The message never holds the address's password.
        """
        if owner is not None:
            checked_digest(owner, "an owner key's fingerprint")
        create &= owner is not None
        database = Database(parse_address(url), create=create)
        try:
            bring_up_to_date(database, owner=owner if create else None)
            if owner is not None:
                _require_owner(database, owner)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    @property
    def owner(self) -> str:
        """Fingerprint of the key it belongs to."""
        with self._database.reading() as connection:
            return str(connection.scalar(select(OWNER.c.owner)))


def _require_owner(database: Database, owner: str) -> None:
    with database.reading() as connection:
        there = connection.scalar(select(OWNER.c.owner))
    if there != owner:
        raise RegistryError(
            f"{database.address.shown}: belongs to the key {str(there)[:16]}..., the key given is {owner[:16]}...; give "
            "that key, or another registry"
        )
