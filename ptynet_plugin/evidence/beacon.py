"""Public randomness after a moment: one round of a beacon such as drand, from its address or from a file.

The beacon's JSON holds `round` and `randomness` (hex), and where it signs also `signature`, of which the randomness is the
SHA-256. When a round is published follows from the chain's `genesis_time` and `period` (seconds), which drand tells under
`info`. From an address the first round after the moment is taken, which leaves nobody a choice; a file's round is refused
where it is from before the moment, or long after it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from ptynet_plugin.claims.canonical import parse_json
from ptynet_plugin.claims.claim import Beacon
from ptynet_plugin.claims.files import read_file
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.evidence.fetching import fetch

__all__ = ["LONGEST_WAIT", "Round", "fetch_beacon", "fetch_round", "told_round"]

LONGEST_WAIT = timedelta(hours=1)
"""At a round every 3 seconds an hour has 2^11 rounds to choose from, well within the allowance of 2^20."""

_LONGEST = 1 << 16
_LATE = 30.0
"""Seconds that a round may take to appear after its time."""


@dataclass(frozen=True)
class Round:
    """One round with what tells when it was published.

    Attributes:
        source: Where it was published.
        round: Which, from 1.
        value: Its random octets, in hex.
        signature: Of which the value is the SHA-256, in hex; "" where the beacon signs nothing.
        genesis_time: When round 1 was published, seconds since 1970.
        period: Seconds between rounds.

    Raises:
        ValueError: The value is not the hash of the signature, or a field is impossible.
    """

    source: str
    round: int
    value: str
    signature: str
    genesis_time: int
    period: int

    def __post_init__(self) -> None:
        octets = bytes.fromhex(self.value)
        if self.signature and hashlib.sha256(bytes.fromhex(self.signature)).digest() != octets:
            raise ValueError(f"the randomness of round {self.round} is not the hash of its signature")
        if not octets or self.round < 1 or self.period < 1 or self.published.year < 2000:
            raise ValueError("an impossible round")

    @property
    def published(self) -> datetime:
        """When it became known."""
        return datetime.fromtimestamp(self.genesis_time + (self.round - 1) * self.period, UTC)

    def is_of_the_hour_after(self, moment: datetime) -> bool:
        """Tell whether it was unknown at a moment, and became known within `LONGEST_WAIT` of it."""
        return moment <= self.published <= moment + LONGEST_WAIT

    def fields(self) -> dict[str, str | int]:
        """Give it as a transcript's line holds it."""
        return asdict(self)


def told_round(told: Mapping[str, Any]) -> Round:
    """Read a round as `Round.fields` wrote it, from an adversary perhaps.

    Raises:
        ValueError: Other fields, or values of another type than a round has, or an impossible round.
    """
    kinds = {"source": str, "round": int, "value": str, "signature": str, "genesis_time": int, "period": int}
    if {name: type(value) for name, value in told.items()} != kinds:
        raise ValueError("a beacon's round has other fields than a round")
    return Round(**told)


def fetch_beacon(source: str, *, after: datetime, timeout: float = 30.0) -> Beacon:
    """Read the beacon round that a claim's salt takes in, see `fetch_round`."""
    drawn = fetch_round(source, after=after, timeout=timeout)
    value, signature = bytes.fromhex(drawn.value), bytes.fromhex(drawn.signature)
    return Beacon(drawn.source, drawn.round, value, signature, drawn.genesis_time, drawn.period)


def fetch_round(
    source: str, *, after: datetime, timeout: float = 30.0, wait: Callable[[float], None] = time.sleep
) -> Round:
    """Read a beacon round that was published after a moment; where it is still to come, wait for it.

    Args:
        source: Address like "https://api.drand.sh/<chain>/public/latest", or a file with the same JSON plus `genesis_time`,
            `period` and `source`.
        after: The moment, for example of a stamp.
        timeout: Seconds per request.
        wait: Waits so many seconds.

    Raises:
        ClaimError: Unreachable, no beacon round, or not published within `LONGEST_WAIT` after the moment.
    """
    if source.startswith(("http://", "https://")):
        drawn, name = _next_round(source, after, timeout, wait), source
    else:
        drawn = _object(read_file(Path(source), most=_LONGEST), source)
        name = str(drawn.get("source", Path(source).name))
    made = _round(drawn, name)
    if not made.is_of_the_hour_after(after):
        raise ClaimError(
            f"{name}: round {made.round} was published {made.published:%Y-%m-%d %H:%M:%S} UTC, what it must follow is of "
            f"{after:%Y-%m-%d %H:%M:%S}; take a round of the hour after it"
        )
    return made


def _next_round(source: str, after: datetime, timeout: float, wait: Callable[[float], None]) -> dict[str, Any]:
    chain = source.rsplit("/public/", 1)[0]
    told = _fetched(f"{chain}/info", timeout)
    try:
        genesis, period = int(told["genesis_time"]), int(told["period"])
        number = max(1, int((after.timestamp() - genesis) // period) + 2)
        ahead = genesis + (number - 1) * period - time.time()
        if ahead > LONGEST_WAIT.total_seconds():
            raise ValueError(f"its next round is {ahead:.0f} s ahead")
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ClaimError(f"{chain}/info: tells no genesis_time and period of a beacon ({error!r})") from None
    wait(max(0.0, ahead))
    give_up = time.monotonic() + _LATE
    while True:
        try:
            return told | _fetched(f"{chain}/public/{number}", timeout)
        except ClaimError:
            if time.monotonic() > give_up:
                raise
            wait(1.0)


def _round(drawn: dict[str, Any], source: str) -> Round:
    try:
        return Round(
            source,
            int(drawn["round"]),
            bytes.fromhex(drawn["randomness"]).hex(),
            bytes.fromhex(drawn.get("signature") or "").hex(),
            int(drawn["genesis_time"]),
            int(drawn["period"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ClaimError(f"{source}: no beacon round with its chain's genesis_time and period ({error})") from None


def _fetched(url: str, timeout: float) -> dict[str, Any]:
    try:
        answer = fetch("GET", url, most=_LONGEST, timeout=timeout)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ClaimError(f"{url}: the beacon gave no round ({error})") from None
    return _object(answer, url)


def _object(octets: bytes, where: str) -> dict[str, Any]:
    found = parse_json(octets, where=where)
    if not isinstance(found, dict):
        raise ClaimError(f"{where}: no beacon round, which is a JSON object")
    return found
