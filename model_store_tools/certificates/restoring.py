"""A lost registry, rebuilt from the certificates and the owner key.

A certificate holds everything that a registry knows of an issued copy, and the copy's code word follows from the key and its
number. Lost for good are reservations that were never completed, revocations and past traces: the caller says how many
numbers and traces there were at most, because a number given twice would name two customers by one word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_store_tools.certificates.certificate import Certificate, read_certificate
from model_store_tools.certificates.countersignature import Countersignature, read_countersignature
from ptynet_plugin.errors import CertificateError, IntegrityError
from ptynet_plugin.keys import OwnerKey

__all__ = ["CERTIFICATE", "COUNTERSIGNATURE", "Found", "collect", "superseded"]

CERTIFICATE, COUNTERSIGNATURE = ".certificate.json", ".countersignature.json"


@dataclass(frozen=True)
class Found:
    """One certified copy.

    Attributes:
        certificate: Signed by the owner's key, its word the copy's.
        countersignature: The customer's, where it lies beside it.
    """

    certificate: Certificate
    countersignature: Countersignature | None


def collect(folder: Path, key: OwnerKey) -> list[Found]:
    """Read and check all certificates below a folder, by claim and number.

    Raises:
        CertificateError: There is none, or a file cannot be read.
        IntegrityError: One was altered, is another key's, or two certify one number for different customers or archives.
    """
    found: dict[tuple[str, int], Found] = {}
    for each in _certificates(folder, key):
        place = (each.certificate.facts.claim, each.certificate.facts.number)
        there = found.setdefault(place, each)
        if there.certificate.digest != each.certificate.digest:
            if _differ(there.certificate, each.certificate):
                raise IntegrityError(
                    f"{folder}: copy {place[1]} is certified twice, for different customers or archives"
                )
            found[place] = max(there, each, key=lambda one: one.certificate.facts.issued)
    if not found:
        raise CertificateError(f"{folder}: holds no file named *{CERTIFICATE}")
    return [found[place] for place in sorted(found)]


def superseded(found: Sequence[Found]) -> dict[tuple[str, int], int]:
    """Give the copies whose customer got a later one of the same claim, and its number: they had been revoked."""
    latest: dict[tuple[str, str], int] = {}
    for each in found:
        facts = each.certificate.facts
        latest[facts.claim, facts.customer] = max(facts.number, latest.get((facts.claim, facts.customer), 0))
    places = [
        (each.certificate.facts, latest[each.certificate.facts.claim, each.certificate.facts.customer])
        for each in found
    ]
    return {(facts.claim, facts.number): last for facts, last in places if facts.number < last}


def _certificates(folder: Path, key: OwnerKey) -> Iterator[Found]:
    for path in sorted(folder.rglob(f"*{CERTIFICATE}")):
        certificate = read_certificate(path)
        try:
            certificate.require_owner(key.epoch_secret(certificate.facts.code.epoch))
        except IntegrityError as error:
            raise IntegrityError(f"{path}: {error}") from None
        beside = path.with_name(path.name.removesuffix(CERTIFICATE) + COUNTERSIGNATURE)
        answer = read_countersignature(beside) if beside.is_file() else None
        if answer is not None:
            answer.require_fits(certificate)
        yield Found(certificate, answer)


def _differ(one: Certificate, other: Certificate) -> bool:
    return (one.facts.customer, one.facts.archive) != (other.facts.customer, other.facts.archive)
