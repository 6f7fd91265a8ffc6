"""The few fields of a time stamp that a claim needs, read from its DER bytes (RFC 3161, RFC 5652, ITU-T X.690).

Nothing is verified here; `timestamps` does that with a certificate authority. What is read here can be read again by
anyone from this page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ptynet_plugin.errors import ClaimError

__all__ = ["Stamp", "read_stamp"]

_INTEGER, _OCTETS, _OID, _TIME, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x18, 0x30, 0x31
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")

Element = tuple[int, bytes]


@dataclass(frozen=True)
class Stamp:
    """What a time-stamp response says.

    Attributes:
        digest: The stamped digest (message imprint).
        time: When the authority saw it.
        signature: The authority's signature octets: nobody knew them before the stamp.
    """

    digest: bytes
    time: datetime
    signature: bytes


def read_stamp(response: bytes) -> Stamp:
    """Read a `TimeStampResp` as it came from the authority.

    Raises:
        ClaimError: Not granted, or not the DER of a time stamp.
    """
    try:
        return _stamp(response)
    except (IndexError, ValueError) as error:
        raise ClaimError(f"the time stamp cannot be read ({error}); is it the authority's answer, in DER?") from None


def _stamp(response: bytes) -> Stamp:
    status, *token = _children(_only(response, _SEQUENCE))
    granted = int.from_bytes(_children(status[1])[0][1], "big")
    if granted != 0:
        raise ClaimError(f"the authority did not grant the time stamp (status {granted})")
    kind, content = _children(token[0][1])
    if kind != (_OID, _SIGNED_DATA):
        raise ValueError("no signed data")
    signed = _children(_only(content[1], _SEQUENCE))
    info = _children(_only(_encapsulated(signed[2][1]), _SEQUENCE))
    signers = [element for element in signed if element[0] == _SET][-1]
    return Stamp(
        digest=_children(info[2][1])[1][1],
        time=_time(next(value for kind, value in info if kind == _TIME)),
        signature=next(value for kind, value in _children(_only(signers[1], _SEQUENCE)) if kind == _OCTETS),
    )


def _encapsulated(content: bytes) -> bytes:
    kind, wrapped = _children(content)
    if kind != (_OID, _TST_INFO):
        raise ValueError("the signed content is no time-stamp info")
    return _only(wrapped[1], _OCTETS)


def _time(text: bytes) -> datetime:
    whole, _, fraction = text.decode("ascii").removesuffix("Z").partition(".")
    moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return moment.replace(microsecond=int(fraction.ljust(6, "0")[:6])) if fraction else moment


def _only(octets: bytes, tag: int) -> bytes:
    found = _children(octets)
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError(f"one element with tag {tag:#04x} was expected")
    return found[0][1]


def _children(octets: bytes) -> list[Element]:
    elements, at = [], 0
    while at < len(octets):
        tag, length, at = octets[at], octets[at + 1], at + 2
        if length >= 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(octets[at : at + count], "big"), at + count
        if at + length > len(octets):
            raise ValueError("an element is longer than what it stands in")
        elements.append((tag, octets[at : at + length]))
        at += length
    return elements
