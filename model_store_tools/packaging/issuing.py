"""From customers to archives: a number for each, an archive that appears whole, its certificate beside it, and only then the
note that it was issued.

Killed anywhere in between, a run leaves a reserved number and no half archive; the same command again takes the number over and
finishes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """

    copy: Any
    packaged: Packaged


def issue_copies(
    packager: CopyPackager,
    registry: CopyRegistry,
    customers: Sequence[str],
    *,
    format: str,
    name: str | None = None,
) -> Iterator[Issued]:
    """Issue a copy to every customer, one after the other.

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
    for customer in customers:
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
        yield Issued(copy, packaged)
