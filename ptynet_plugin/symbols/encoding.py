"""One unambiguous way to turn a tuple into bytes before it is hashed.

Every part stands behind its kind and its length, so two different tuples never share an encoding. The format is small
enough to be written again in any language from this page:

    kind (1 byte: "s" text, "i" integer, "b" octets), length (8 bytes, big-endian), content
    text is UTF-8; an integer is its decimal digits in ASCII, with a leading "-" below zero
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

__all__ = ["encode", "tagged_digest"]

Part = int | str | bytes


def encode(*parts: Part) -> bytes:
    """Encode a tuple of texts, integers and octets; injective."""
    return b"".join(_pieces(parts))


def tagged_digest(label: str, *parts: Part) -> bytes:
    """Give SHA-256 over the label, like "leaf/v1", and the parts: 32 bytes."""
    return hashlib.sha256(encode(label, *parts)).digest()


def _pieces(parts: tuple[Part, ...]) -> Iterator[bytes]:
    for part in parts:
        kind, content = _kind_and_content(part)
        yield kind + len(content).to_bytes(8, "big") + content


def _kind_and_content(part: Part) -> tuple[bytes, bytes]:
    match part:
        case bool():
            raise TypeError("a bool has no encoding of its own; give 0 or 1")
        case str():
            return b"s", part.encode()
        case int():
            return b"i", str(part).encode()
        case bytes():
            return b"b", part
    raise TypeError(f"{type(part).__name__} cannot be encoded; give text, an integer or octets")
