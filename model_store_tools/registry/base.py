"""What every part of a registry works on."""

from __future__ import annotations

from sqlalchemy import Connection

from model_store_tools.registry.database import Database
from model_store_tools.registry.records import Copy
from model_store_tools.registry.rows import find_copy
from ptynet_plugin.errors import RegistryError

__all__ = ["OnDatabase"]


class OnDatabase:
    """A part of an open registry.

    Every method of a part is one transaction and may be called from many processes at once. All raise `RegistryError` where the
    database cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def shown(self) -> str:
        """The registry's name for messages; holds no password."""
        return self._database.address.shown

    def _required(self, connection: Connection, claim: str, number: int, *, lock: bool = False) -> Copy:
        found = find_copy(connection, claim, number, lock=lock)
        if found is None:
            raise RegistryError(f"{self.shown}: claim {claim[:16]}... has no copy {number}; see `ptynet copies list`")
        return found
