"""Numbers for customers, archives for numbers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, update

from model_store_tools.registry.base import OnDatabase
from model_store_tools.registry.names import checked_claim, checked_customer, checked_digest, checked_line
from model_store_tools.registry.records import Copy
from model_store_tools.registry.rows import (
    active_copies,
    change_copy,
    complete_reserved,
    find_copy,
    first_twice,
    fresh_row,
    locked_counter,
    now,
    take_over,
)
from model_store_tools.registry.tables import CLAIMS, COPIES
from ptynet_plugin.errors import RegistryError

__all__ = ["Issuing"]


class Issuing(OnDatabase):
    """Gives numbers out and notes the archives that were made for them."""

    def reserve(self, *, claim: str, customer: str) -> Copy:
        """Give a customer the next number of a claim, before anything is packaged.

        A reservation that was never completed is taken over, with its number: then only the copy returned here can be
        completed, not the one that an earlier call returned.

        Raises:
            RegistryError: The name is empty or unprintable, or the customer has a copy that is not revoked.
        """
        return self.reserve_many(claim=claim, customers=[customer])[0]

    def reserve_many(self, *, claim: str, customers: Sequence[str]) -> list[Copy]:
        """Give several customers numbers in one transaction, as `reserve` does: all of them, or none.

        Returns:
            One copy per customer, in their order.
        """
        checked_claim(claim)
        names = [checked_customer(each) for each in customers]
        if twice := first_twice(names):
            raise RegistryError(f"the customer {twice!r} is given twice")
        at = now()
        with self._database.writing() as connection:
            last = locked_counter(connection, claim, CLAIMS.c.copies)
            held = active_copies(connection, claim, names)
            self._refuse_issued(held)
            new = [name for name in names if name not in held]
            rows = [fresh_row(claim, last + place, name, at) for place, name in enumerate(new, start=1)]
            if rows:
                connection.execute(insert(COPIES), rows)
                connection.execute(update(CLAIMS).where(CLAIMS.c.digest == claim).values(copies=last + len(rows)))
            taken_over = {name: take_over(connection, copy) for name, copy in held.items()}
        given = taken_over | {row["customer"]: Copy(**row) for row in rows}
        return [given[name] for name in names]

    def complete(
        self,
        copy: Copy,
        *,
        archive: str,
        format: str,
        digest: str,
        certificate: str | None = None,
        issued_at: str | None = None,
    ) -> Copy:
        """Register the archive of a reserved copy: from now on it is issued. Doing so again with the same archive is no error.

        Args:
            copy: What `reserve` returned.
            archive: Name of the archive, not its path.
            format: "triton" or "torchserve".
            digest: The archive's digest, as `ptynet check` prints it.
            certificate: SHA-256 of the copy's certificate.
            issued_at: When, as the certificate says it; now where not said.

        Raises:
            RegistryError: The reservation was taken over, revoked, or completed with another archive.
        """
        facts = {
            "archive": checked_line(archive, "the archive's name"),
            "format": checked_line(format, "the archive's format"),
            "digest": checked_digest(digest, "an archive's digest"),
        }
        if certificate is not None:
            facts["certificate"] = checked_digest(certificate, "a certificate's digest")
        with self._database.writing() as connection:
            there = find_copy(connection, copy.claim, copy.number, lock=True)
            if there is None or there.ticket != copy.ticket:
                raise RegistryError(
                    f"{self.shown}: another process took over copy {copy.number}; its archive is the one that counts"
                )
            if there.revoked_at is not None:
                raise RegistryError(
                    f"{self.shown}: copy {copy.number} was revoked while it was made; do not hand it out"
                )
            if there.issued_at is not None:
                if (there.archive, there.format, there.digest) == (facts["archive"], facts["format"], facts["digest"]):
                    return there
                raise RegistryError(f"{self.shown}: copy {copy.number} was issued with archive {there.digest} already")
            change_copy(connection, copy.claim, copy.number, issued_at=issued_at or now(), **facts)
            return self._required(connection, copy.claim, copy.number)

    def complete_many(self, archives: Sequence[tuple[Copy, str, str]], *, format: str) -> None:
        """Register the archives of several reserved copies in one transaction: all of them, or none.

        Args:
            archives: Reserved copy, name of its archive, digest of its archive.
            format: "triton" or "torchserve".

        Raises:
            RegistryError: A reservation was taken over, revoked or completed meanwhile.
        """
        at, form = now(), checked_line(format, "the archive's format")
        values: list[dict[str, str | int]] = [
            {
                "at_claim": copy.claim,
                "at_number": copy.number,
                "at_ticket": copy.ticket,
                "archive": checked_line(archive, "the archive's name"),
                "digest": checked_digest(digest, "an archive's digest"),
            }
            for copy, archive, digest in archives
        ]
        if not values:
            return
        with self._database.writing() as connection:
            if complete_reserved(connection, values, issued_at=at, format=form) != len(values):
                raise RegistryError(
                    f"{self.shown}: one of {len(values)} reservations is no longer open; none was completed"
                )

    def _refuse_issued(self, held: dict[str, Copy]) -> None:
        for copy in held.values():
            if copy.issued_at is not None:
                raise RegistryError(
                    f"{self.shown}: {copy.customer!r} has copy {copy.number} since {copy.issued_at[:10]}; one customer has one "
                    f"copy, `ptynet copies revoke {copy.number}` makes room for another"
                )
