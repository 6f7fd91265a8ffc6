"""Numbers, customers, archives and traces in one database; see the package's docstring for a session."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Select, insert, select, update

from model_store_tools.registry.address import parse_address
from model_store_tools.registry.database import Database
from model_store_tools.registry.names import checked_claim, checked_customer, checked_digest, checked_line
from model_store_tools.registry.records import Copy, ListedCopy, Trace
from model_store_tools.registry.rows import (
    AT_ONCE,
    COPY_COLUMNS,
    LISTED_COLUMNS,
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
from model_store_tools.registry.schema import bring_up_to_date
from model_store_tools.registry.tables import ClaimRow, CopyRow, OwnerRow, TraceRow
from ptynet_plugin.errors import RegistryError

__all__ = ["Registry"]


class Registry:
    """An open registry; a context manager. Made by `Registry.open`.

    Every method is one transaction and may be called from many processes at once. All raise `RegistryError` where the
    database cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

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
    def shown(self) -> str:
        """The registry's name for messages; holds no password."""
        return self._database.address.shown

    @property
    def owner(self) -> str:
        """Fingerprint of the key it belongs to."""
        with self._database.reading() as connection:
            return str(connection.scalar(select(OwnerRow.owner)))

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
            last = locked_counter(connection, claim, ClaimRow.copies)
            held = active_copies(connection, claim, names)
            self._refuse_issued(held)
            new = [name for name in names if name not in held]
            rows = [fresh_row(claim, last + place, name, at) for place, name in enumerate(new, start=1)]
            if rows:
                connection.execute(insert(CopyRow), rows)
                connection.execute(update(ClaimRow).where(ClaimRow.digest == claim).values(copies=last + len(rows)))
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

    def listed(
        self, claim: str | None = None, *, customer: str | None = None, revoked: bool | None = None
    ) -> Iterator[ListedCopy]:
        """Go through the copies as `copies` does, with no more of each than a list shows; several times as fast."""
        asked = _narrowed(select(*LISTED_COLUMNS), claim, customer, revoked)
        with self._database.reading() as connection:
            for some in connection.execution_options(yield_per=AT_ONCE).execute(asked).partitions():
                yield from map(ListedCopy._make, some)

    def count(self, claim: str) -> int:
        """Give the highest number ever given to a copy of a claim; 0 where there is none."""
        with self._database.reading() as connection:
            return connection.scalar(select(ClaimRow.copies).where(ClaimRow.digest == checked_claim(claim))) or 0

    def claims(self) -> list[str]:
        """Give the digests of all claims that have copies or traces."""
        with self._database.reading() as connection:
            return list(connection.scalars(select(ClaimRow.digest).order_by(ClaimRow.digest)))

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
                copied = locked_counter(connection, checked_claim(claim), ClaimRow.copies)
                traced = locked_counter(connection, claim, ClaimRow.traces)
                counters = {"copies": max(copied, highest[claim]), "traces": max(traced, traces.get(claim, 0))}
                connection.execute(update(ClaimRow).where(ClaimRow.digest == claim).values(**counters))
            for copy in copies:
                there = find_copy(connection, copy.claim, copy.number, lock=True)
                if there is None:
                    connection.execute(insert(CopyRow).values(**asdict(copy)))
                    entered += 1
                elif (there.customer, there.digest) != (copy.customer, copy.digest):
                    raise RegistryError(
                        f"{self.shown}: copy {copy.number} stands there for {there.customer!r} with another archive"
                    )
        return entered

    def begin_trace(self, claim: str, *, endpoint: str) -> int:
        """Register a trace before its first question.

        Args:
            claim: Digest of the claim whose copies are looked for.
            endpoint: Whom it will ask, without credentials.

        Returns:
            Its number t: 1, 2, 3, ... within the claim.
        """
        asked = checked_line(endpoint, "the endpoint")
        with self._database.writing() as connection:
            number = locked_counter(connection, checked_claim(claim), ClaimRow.traces) + 1
            row = {"claim": claim, "number": number, "endpoint": asked, "started_at": now()}
            connection.execute(insert(TraceRow), [row])
            connection.execute(update(ClaimRow).where(ClaimRow.digest == claim).values(traces=number))
        return number

    def finish_trace(self, claim: str, number: int, *, accused: Sequence[int], verdict: str) -> None:
        """Register how a trace ended.

        Args:
            claim: Digest of the claim.
            number: What `begin_trace` returned.
            accused: Numbers of the copies it names, strongest first.
            verdict: In a word.

        Raises:
            RegistryError: No such trace, or it ended already.
        """
        word = checked_line(verdict, "the verdict")
        named = json.dumps([int(each) for each in accused])
        with self._database.writing() as connection:
            here = (TraceRow.claim == checked_claim(claim), TraceRow.number == number)
            ended = update(TraceRow).where(*here, TraceRow.finished_at.is_(None))
            changed = connection.execute(ended.values(finished_at=now(), accused=named, verdict=word))
            if changed.rowcount != 1:
                raise RegistryError(
                    f"{self.shown}: trace {number} of claim {claim[:16]}... is unknown or ended already"
                )

    def traces(self, claim: str | None = None) -> list[Trace]:
        """Give all traces, by claim and number."""
        asked = select(
            TraceRow.claim,
            TraceRow.number,
            TraceRow.endpoint,
            TraceRow.started_at,
            TraceRow.finished_at,
            TraceRow.verdict,
            TraceRow.accused,
        ).order_by(TraceRow.claim, TraceRow.number)
        if claim is not None:
            asked = asked.where(TraceRow.claim == checked_claim(claim))
        with self._database.reading() as connection:
            return [Trace(*row[:-1], tuple(json.loads(row.accused or "[]"))) for row in connection.execute(asked)]

    def _required(self, connection: Connection, claim: str, number: int, *, lock: bool = False) -> Copy:
        found = find_copy(connection, claim, number, lock=lock)
        if found is None:
            raise RegistryError(f"{self.shown}: claim {claim[:16]}... has no copy {number}; see `ptynet copies list`")
        return found

    def _refuse_issued(self, held: dict[str, Copy]) -> None:
        for copy in held.values():
            if copy.issued_at is not None:
                raise RegistryError(
                    f"{self.shown}: {copy.customer!r} has copy {copy.number} since {copy.issued_at[:10]}; one customer has one "
                    f"copy, `ptynet copies revoke {copy.number}` makes room for another"
                )


def _narrowed(
    asked: Select[*tuple[Any, ...]], claim: str | None, customer: str | None, revoked: bool | None
) -> Select[*tuple[Any, ...]]:
    if claim is not None:
        asked = asked.where(CopyRow.claim == checked_claim(claim))
    if customer is not None:
        asked = asked.where(CopyRow.customer == checked_customer(customer))
    if revoked is not None:
        asked = asked.where(CopyRow.revoked_at.is_not(None) if revoked else CopyRow.revoked_at.is_(None))
    return asked.order_by(CopyRow.claim, CopyRow.number)


def _require_owner(database: Database, owner: str) -> None:
    with database.reading() as connection:
        there = connection.scalar(select(OwnerRow.owner))
    if there != owner:
        raise RegistryError(
            f"{database.address.shown}: belongs to the key {str(there)[:16]}..., the key given is {owner[:16]}...; give "
            "that key, or another registry"
        )
