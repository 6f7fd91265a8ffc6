"""The owner key: 32 secret bytes from which everything secret is derived (HKDF-SHA256, RFC 5869).

Two derivations with different context labels are independent; the label carries the version of what it derives, so that
a change of an algorithm changes its label and old claims stay checkable. No file is touched here, see `keyfile`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptynet_plugin.errors import KeyFileError

__all__ = ["KEY_BYTES", "OwnerKey", "derive"]

KEY_BYTES = 32


@dataclass(frozen=True)
class OwnerKey:
    """The owner's secret. Its `repr` never shows it.

    Attributes:
        secret: Exactly 32 bytes.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise KeyFileError(f"an owner key has {KEY_BYTES} bytes, this one has {len(self.secret)}")

    @classmethod
    def generate(cls) -> OwnerKey:
        """Draw a fresh key from the operating system's randomness."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def derive(self, label: str, *parts: int | bytes | str, length: int = 32) -> bytes:
        """Derive `length` bytes for one purpose, see `derive`."""
        return derive(self.secret, label, *parts, length=length)

    def probe_secret(self) -> bytes:
        """Give the 32 bytes from which carriers, code words and covers are made; the mark folder holds them too."""
        return self.derive("probes/v1")

    def epoch_secret(self, epoch: int = 0) -> bytes:
        """Give the 32 bytes from which a claim's nonces and labels are made.

        Args:
            epoch: Claims of different epochs share nothing, so that what one dispute opens tells nothing of the next.
        """
        return self.derive("epoch/v1", epoch)

    def fingerprint(self) -> str:
        """Say which key this is without telling it: 64 hex digits, for the owner's own files only.

        Archives never carry it (two archives of one owner would be linkable); they carry a claim's commitment.
        """
        return self.derive("fingerprint/v1").hex()


def derive(secret: bytes, label: str, *parts: int | bytes | str, length: int = 32) -> bytes:
    """Derive bytes for one purpose from the owner key's secret, or from a secret derived from it.

    Args:
        secret: 32 bytes, uniformly random.
        label: Purpose and version, like "carriers/v1".
        *parts: What distinguishes this use within the purpose. Encoded with type and length in front, so that no two
            different tuples share an encoding.
        length: Number of bytes, 1 to 8160.

    Returns:
        The derived bytes; the same for the same secret, label and parts on every machine.
    """
    info = b"ptynet/" + label.encode() + b"\0" + b"".join(_encoded(part) for part in parts)
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(secret)


def _encoded(part: int | bytes | str) -> bytes:
    if isinstance(part, int):
        part = str(part)
    kind, octets = (b"s", part.encode()) if isinstance(part, str) else (b"b", part)
    return kind + len(octets).to_bytes(4, "big") + octets
