"""From customers to archives: a number for each, an archive that appears whole, its certificate beside it, and only then the
note that it was issued.

Killed anywhere in between, a run leaves a reserved number and no half archive; the same command again takes the number over and
finishes it. A command for several customers passes over those who have their copy already, with the very archive that lies there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from model_store_tools.packaging.certifying import certify
from model_store_tools.packaging.copies import CopyPackager
from model_store_tools.packaging.package import Packaged
from ptynet_plugin.errors import UsageError

__all__ = ["CopyRegistry", "Issued", "issue_copies"]


class CopyRegistry(Protocol):
    """What issuing needs of a registry, see `model_store_tools.registry.Registry`."""

    def copies(self, claim: str, *, customer: str, revoked: bool) -> Iterable[Any]:
        """Give the copies of a claim that a customer has."""

    def reserve(self, *, claim: str, customer: str) -> Any:
        """Give a customer the claim's next number, `.number` of what is returned."""

    def complete(self, copy: Any, *, archive: str, format: str, digest: str, certificate: str, issued_at: str) -> Any:
        """Note the archive and the certificate of a reserved copy."""


@dataclass(frozen=True)
class Issued:
    """One copy, issued.

    Attributes:
        copy: The registry's record of it.
        packaged: Its archive.
        before: Whether an earlier run issued it; this one left it as it is.
    """

    copy: Any
    packaged: Packaged
    before: bool = False


def issue_copies(
    packager: CopyPackager,
    registry: CopyRegistry,
    customers: Sequence[str],
    *,
    format: str,
    name: str | None = None,
) -> Iterator[Issued]:
    """Issue a copy to every customer, one after the other.

    Of several customers, those whose copy is issued already, with exactly the archive that lies at its place, are passed over: so
    a command that was killed between two of them finishes the rest. A single customer with a copy is refused, as is one whose
    archive lies elsewhere.

    Args:
        packager: Opened.
        registry: Of the owner's key.
        customers: Their names.
        format: "triton" or "torchserve".
        name: Model name of the only copy; TARGET-copy-NUMBER where not said.

    Raises:
        UsageError: No customer, or one name for several archives.
        RegistryError: As `Registry.reserve` and `Registry.complete`.
        PtynetError: As `CopyPackager.pack`.
    """
    if not customers:
        raise UsageError("nobody to issue a copy to; give --customer NAME")
    if name is not None and len(customers) > 1:
        raise UsageError(
            f"--name {name} would give {len(customers)} archives one name; leave it away, or issue one copy at a time"
        )
    if name is not None and not packager.path(name).exists():
        packager.require_free(name)  # the registry is left alone where nothing could be written
    numbers: set[int] = set()
    for customer in customers:
        there = _issued_before(packager, registry, customer) if len(customers) > 1 else None
        if there is not None and there.copy.number not in numbers:  # named twice he is refused by `reserve`
            numbers.add(there.copy.number)
            yield there
            continue
        copy = registry.reserve(claim=packager.claim.digest, customer=customer)
        model = name or f"{packager.target_name}-copy-{copy.number}"
        packaged = packager.made_before(copy.number, model) or packager.pack(copy.number, model)
        issued = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        certificate = certify(copy, packaged, packager.tables, format=format, issued=issued)
        copy = registry.complete(
            copy,
            archive=packaged.path.name,
            format=format,
            digest=packaged.digest,
            certificate=certificate.digest,
            issued_at=issued,
        )
        numbers.add(copy.number)
        yield Issued(copy, packaged)


def _issued_before(packager: CopyPackager, registry: CopyRegistry, customer: str) -> Issued | None:
    """Find a customer's copy that is issued with the archive that lies at its place."""
    for copy in list(registry.copies(packager.claim.digest, customer=customer, revoked=False)):
        if copy.issued_at is None:
            continue
        packaged = packager.made_before(copy.number, f"{packager.target_name}-copy-{copy.number}")
        if packaged is not None and (packaged.path.name, packaged.digest) == (copy.archive, copy.digest):
            return Issued(copy, packaged, before=True)
    return None
