"""Stamps of stamps, each made before the certificates of the ones before it expire (RFC 4998 does the same at length).

renewal-N.json    canonical JSON: the SHA-256 of every stamp there was, and of the renewals before it
renewal-N.tsr     the stamp over it
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ptynet_plugin.claims.canonical import canonical_json, parse_json
from ptynet_plugin.claims.files import read_file, write_beside
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.evidence.timestamps import certificates_expire, verify_stamp

__all__ = ["check_chain", "renew", "renewal_message", "renewals"]

_FIRST = ("stamp.tsr", "binding.tsr")
_SCHEMA = "ptynet-renewal/v1"


def renewals(folder: Path) -> list[Path]:
    """Give the renewals in their order."""
    return sorted(folder.glob("renewal-*.tsr"), key=lambda path: _number(path.stem))


def renewal_message(folder: Path) -> bytes:
    """Give what the next renewal stamps: the hashes of everything that was stamped so far."""
    first = [folder / name for name in _FIRST if (folder / name).exists()]
    stamps = {path.name: _digest(path) for path in first + renewals(folder)}
    return canonical_json({"schema": _SCHEMA, "stamps": stamps})


def renew(folder: Path, response: bytes, *, roots: bytes) -> Path:
    """Keep a stamp over all stamps so far.

    Args:
        folder: The claim's folder.
        response: The authority's `TimeStampResp` over `renewal_message`.
        roots: Trusted PEM certificates.

    Raises:
        ClaimError: It does not verify, or comes after one of those it renews has expired.
    """
    message, before = renewal_message(folder), renewals(folder)
    stamp, _ = verify_stamp(response, message, roots=roots)
    renewed = {name for path in before for name in _listed(path)}
    for name in set(parse_json(message, where="renewal")["stamps"]) - renewed:
        _require_unexpired(folder / name, stamp.time)
    path = folder / f"renewal-{len(before) + 1}.tsr"
    write_beside(path.with_suffix(".json"), message)
    write_beside(path, response)
    return path


def check_chain(
    folder: Path, times: Mapping[str, datetime], *, roots: bytes, now: datetime | None = None
) -> dict[str, datetime]:
    """Make sure that every stamp was alive when a renewal took it over, and that the last one is alive now.

    Args:
        folder: The claim's folder, or a bundle's.
        times: File name to time of the stamps that are no renewals.
        roots: Trusted PEM certificates.
        now: The time of the check.

    Returns:
        File name to time of every renewal.

    Raises:
        ClaimError: The first link that does not hold, by name.
    """
    found: dict[str, datetime] = {}
    alive = dict(times)
    for number, path in enumerate(renewals(folder), start=1):
        listed = _listed(path)
        try:
            moment = verify_stamp(read_file(path), read_file(path.with_suffix(".json")), roots=roots)[0].time
        except ClaimError as error:
            raise ClaimError(f"{path.name}: {error}") from None
        wrong = {name for name in listed if name not in times and name not in found}
        wrong |= {name for name in listed if name not in wrong and listed[name] != _digest(folder / name)}
        wrong |= {name for name, time in alive.items() if name not in listed and time < moment}
        if wrong or not listed or path.name != f"renewal-{number}.tsr":
            raise ClaimError(
                f"{path.name}: does not renew the stamps before it ({min(wrong, default='one is missing')})"
            )
        for name in set(listed) & set(alive):
            _require_unexpired(folder / name, moment)
            del alive[name]
        found[path.name] = alive[path.name] = moment
    for name in alive:
        _require_unexpired(folder / name, now or datetime.now(UTC))
    return found


def _listed(path: Path) -> dict[str, str]:
    """Give what a renewal renews, file name to SHA-256 in hex."""
    message = path.with_suffix(".json")
    content = parse_json(read_file(message), where=message.name)
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA or not isinstance(content.get("stamps"), dict):
        raise ClaimError(f"{message.name}: names no stamps to renew")
    return {str(name): str(digest) for name, digest in content["stamps"].items()}


def _require_unexpired(path: Path, moment: datetime) -> None:
    expires = certificates_expire(read_file(path))
    if moment > expires:
        raise ClaimError(
            f"{path.name}: a certificate in it expired on {expires:%Y-%m-%d}, before it was renewed; what it proves can no "
            "longer be checked by its signature alone"
        )


def _digest(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()


def _number(stem: str) -> int:
    text = stem.removeprefix("renewal-")
    return int(text) if text.isdecimal() and len(text) < 6 else 0
