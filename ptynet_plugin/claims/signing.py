"""The key that signs a claim's evidence: Ed25519 (RFC 8032), derived from the epoch's secret.

Its public half is one of the claim's fields, so a bundle that another key signed is another man's bundle.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ptynet_plugin.keys import derive

__all__ = ["is_signed_by", "sign", "signer"]


def signer(secret: bytes) -> str:
    """Give the public key that signs for this epoch, 64 hex digits."""
    return _private(secret).public_key().public_bytes_raw().hex()


def sign(secret: bytes, message: bytes) -> bytes:
    """Sign a message with the epoch's signing key: 64 bytes, the same for the same message."""
    return _private(secret).sign(message)


def is_signed_by(public: str, signature: bytes, message: bytes) -> bool:
    """Tell whether the holder of this public key (64 hex digits) signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(secret: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derive(secret, "signing/v1"))
