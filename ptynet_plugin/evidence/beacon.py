"""Public randomness after a stamp: one round of a beacon such as drand, from its address or from a file.

The beacon's JSON holds `round` and `randomness` (hex), and where it signs also `signature`, of which the randomness is the
SHA-256. When a round is published follows from the chain's `genesis_time` and `period` (seconds), which drand tells under
`info`. A round from before the stamp, or one picked long after it, leaves its owner a choice and is refused.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from ptynet_plugin.claims.canonical import parse_json
from ptynet_plugin.claims.claim import Beacon
from ptynet_plugin.claims.files import read_file
from ptynet_plugin.errors import ClaimError

__all__ = ["LONGEST_WAIT", "fetch_beacon"]

LONGEST_WAIT = timedelta(hours=1)
"""At a round every 3 seconds an hour has 2^11 rounds to choose from, well within the allowance of 2^20."""

_LONGEST = 1 << 16


def fetch_beacon(source: str, *, after: datetime, timeout: float = 30.0) -> Beacon:
    """Read a beacon round that was published after a stamp.

    Args:
        source: Address like "https://api.drand.sh/<chain>/public/latest", or a file with the same JSON plus `genesis_time`,
            `period` and `source`.
        after: Time of the stamp.
        timeout: Seconds per request.

    Raises:
        ClaimError: Unreachable, no beacon round, or not published within `LONGEST_WAIT` after the stamp.
    """
    if source.startswith(("http://", "https://")):
        drawn = _fetched(source, timeout)
        drawn |= _fetched(source.rsplit("/public/", 1)[0] + "/info", timeout)
        name = source
    else:
        drawn = _object(read_file(Path(source), most=_LONGEST), source)
        name = str(drawn.get("source", Path(source).name))
    return _checked(drawn, name, after)


def _checked(drawn: dict[str, Any], source: str, after: datetime) -> Beacon:
    try:
        number, value = int(drawn["round"]), bytes.fromhex(drawn["randomness"])
        signed = drawn.get("signature")
        hashed = value if signed is None else hashlib.sha256(bytes.fromhex(signed)).digest()
        published = datetime.fromtimestamp(int(drawn["genesis_time"]) + (number - 1) * int(drawn["period"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ClaimError(f"{source}: no beacon round with its chain's genesis_time and period ({error!r})") from None
    if hashed != value:
        raise ClaimError(f"{source}: the randomness of round {number} is not the hash of its signature")
    if not after <= published <= after + LONGEST_WAIT:
        raise ClaimError(
            f"{source}: round {number} was published {published:%Y-%m-%d %H:%M:%S} UTC, the stamp is of "
            f"{after:%Y-%m-%d %H:%M:%S}; take a round of the hour after the stamp"
        )
    return Beacon(source, number, value)


def _fetched(url: str, timeout: float) -> dict[str, Any]:
    try:
        answer = httpx.get(url, timeout=timeout)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClaimError(f"{url}: the beacon gave no round ({error})") from None
    return _object(answer.content[:_LONGEST], url)


def _object(octets: bytes, where: str) -> dict[str, Any]:
    found = parse_json(octets, where=where)
    if not isinstance(found, dict):
        raise ClaimError(f"{where}: no beacon round, which is a JSON object")
    return found
