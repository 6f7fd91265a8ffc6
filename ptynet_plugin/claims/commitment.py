"""Commit to a set of named values so that each can be opened alone and none can be guessed.

Every field is hashed with its own secret nonce of 256 bits; the commitment C1 is the canonical JSON of these hashes. Who
sees C1, or stamps it, learns the fields' names and nothing of their values, though values like a file name or a class
count are easily guessed.

    field   = SHA-256(encode("field/v1", nonce, name, canonical JSON of the value))
    C1      = {"fields": {name: field in hex, ...}, "schema": "ptynet-commitment/v1"}
    digest  = SHA-256(C1)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.keys import derive
from ptynet_plugin.symbols.encoding import tagged_digest

__all__ = ["SCHEMA", "Opening", "commitment_bytes", "field_digest", "hide"]

SCHEMA = "ptynet-commitment/v1"


@dataclass(frozen=True)
class Opening:
    """What opens one field of a commitment.

    Attributes:
        value: Anything with a canonical form.
        nonce: 32 secret bytes.
    """

    value: Any
    nonce: bytes


def hide(values: Mapping[str, Any], *, secret: bytes) -> dict[str, Opening]:
    """Give every value its own nonce, derived so that the same content under the same secret commits to the same bytes.

    Args:
        values: Field name to a value with a canonical form.
        secret: 32 secret bytes. The nonces also depend on all values together, so two commitments that share a
            field's value do not share its hash.
    """
    context = hashlib.sha256(canonical_json(dict(values))).digest()
    return {name: Opening(value, derive(secret, "hiding/v1", context, name)) for name, value in values.items()}


def field_digest(name: str, opening: Opening) -> bytes:
    """Give the hash under which a field stands in C1: 32 bytes."""
    return tagged_digest("field/v1", opening.nonce, name, canonical_json(opening.value))


def commitment_bytes(openings: Mapping[str, Opening]) -> bytes:
    """Give C1, the bytes that are stamped and whose SHA-256 is the claim's digest."""
    fields = {name: field_digest(name, opening).hex() for name, opening in openings.items()}
    return canonical_json({"schema": SCHEMA, "fields": fields})
