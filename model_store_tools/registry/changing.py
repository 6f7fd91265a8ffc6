"""What becomes of copies later: revoked, countersigned, entered again from their certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import insert, update

from model_store_tools.registry.base import OnDatabase
from model_store_tools.registry.names import checked_claim, checked_digest, checked_line
from model_store_tools.registry.records import Copy
from model_store_tools.registry.rows import change_copy, find_copy, locked_counter, now
from model_store_tools.registry.tables import CLAIMS, COPIES
from ptynet_plugin.errors import RegistryError

__all__ = ["Changing"]


class Changing(OnDatabase):
    """Changes copies that were given; never a number, and no row is deleted."""

    def revoke(self, claim: str, number: int, *, reason: str) -> Copy:
        """Mark a copy as revoked, a reserved one too. It is traced as before, and its customer may get a new number.

        Raises:
            RegistryError: No such copy, revoked already, or an empty reason.
        """
        because = checked_line(reason, "the reason")
        with self._database.writing() as connection:
            there = self._required(connection, checked_claim(claim), number, lock=True)
            if there.revoked_at is not None:
                raise RegistryError(
                    f"{self.shown}: copy {number} was revoked on {there.revoked_at[:10]} already ({there.revoked_because})"
                )
            change_copy(connection, claim, number, revoked_at=now(), revoked_because=because)
            return self._required(connection, claim, number)

    def countersign(self, claim: str, number: int, *, public_key: str, signature: str) -> Copy:
        """Keep the customer's signature over a copy's archive and certificate; the caller has checked it.

        Raises:
            RegistryError: No such copy, not issued with a certificate, or countersigned with another key already.
        """
        checked_digest(public_key, "a public key")
        with self._database.writing() as connection:
            there = self._required(connection, checked_claim(claim), number, lock=True)
            if there.certificate is None:
                raise RegistryError(f"{self.shown}: copy {number} has no certificate that could be countersigned")
            if (there.countersigner, there.countersignature) == (public_key, signature):
                return there
            if there.countersigner is not None:
                raise RegistryError(
                    f"{self.shown}: copy {number} is countersigned with the key {there.countersigner[:16]}..., the new "
                    f"signature is of {public_key[:16]}...; the first one stays"
                )
            change_copy(
                connection, claim, number, countersigner=public_key, countersignature=signature, countersigned_at=now()
            )
            return self._required(connection, claim, number)

    def restore(self, copies: Sequence[Copy], *, highest: Mapping[str, int], traces: Mapping[str, int]) -> int:
        """Enter copies that are known from their certificates, all or none; what is there already stays as it is.

        Args:
            copies: Issued copies.
            highest: Per claim, the highest number that was ever given to a copy, or more: nothing up to it is given again.
            traces: Per claim, the highest number that was ever given to a trace, or more.

        Returns:
            How many were entered.

        Raises:
            RegistryError: A number stands there for another customer or archive, or a customer has two copies.
        """
        entered = 0
        with self._database.writing() as connection:
            for claim in sorted(highest):
                copied = locked_counter(connection, checked_claim(claim), CLAIMS.c.copies)
                traced = locked_counter(connection, claim, CLAIMS.c.traces)
                counters = {"copies": max(copied, highest[claim]), "traces": max(traced, traces.get(claim, 0))}
                connection.execute(update(CLAIMS).where(CLAIMS.c.digest == claim).values(**counters))
            for copy in copies:
                there = find_copy(connection, copy.claim, copy.number, lock=True)
                if there is None:
                    connection.execute(insert(COPIES).values(**asdict(copy)))
                    entered += 1
                elif (there.customer, there.digest) != (copy.customer, copy.digest):
                    raise RegistryError(
                        f"{self.shown}: copy {copy.number} stands there for {there.customer!r} with another archive"
                    )
        return entered
