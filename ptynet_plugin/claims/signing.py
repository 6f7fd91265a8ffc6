"""The key that signs a claim's evidence: Ed25519 (RFC 8032), derived from the epoch's secret.

Its public half is one of the claim's fields, so a bundle that another key signed is another man's bundle.
"""

from __future__ import annotations

import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ptynet_plugin.keys import derive

__all__ = ["is_signed_by", "sign", "signer"]

_P = 2**255 - 19
_ORDER_EIGHT = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL = {0, 1, _P - 1, _ORDER_EIGHT, _P - _ORDER_EIGHT}
"""y of the points of order 1, 2, 4 and 8: under such a key one signature fits any message, so that it is nobody's."""


def signer(secret: bytes) -> str:
    """Give the public key that signs for this epoch, 64 hex digits."""
    return _private(secret).public_key().public_bytes_raw().hex()


def sign(secret: bytes, message: bytes) -> bytes:
    """Sign a message with the epoch's signing key: 64 bytes, the same for the same message."""
    return _private(secret).sign(message)


def is_signed_by(public: str, signature: bytes, message: bytes) -> bool:
    """Tell whether the holder of this public key (64 hex digits) signed the message.

    A key of small order, or one not in its one form (64 lower-case digits, y below the prime), has no holder.
    """
    if re.fullmatch("[0-9a-f]{64}", public) is None:
        return False
    y = int.from_bytes(bytes.fromhex(public), "little") & (2**255 - 1)
    if y >= _P or y in _SMALL:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(secret: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derive(secret, "signing/v1"))
