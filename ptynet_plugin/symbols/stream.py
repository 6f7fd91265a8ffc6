"""Randomness that a key repeats: an HMAC-SHA256 counter stream read as integers.

Octet block i of a stream is HMAC-SHA256(stream key, i as 8 octets, big-endian); the stream key is derived from a secret with
a label. Reading it involves no floating point and no library's generator, whose numbers may change between versions: the
same secret gives the same integers on every machine, for ever.
"""

from __future__ import annotations

import hmac

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import derive

__all__ = ["KeyStream"]

BLOCK_BYTES = 32
WORD_RANGE = 1 << 64


class KeyStream:
    """A keyed sequence of octets, consumed from its start.

    Args:
        secret: 32 uniformly random bytes.
        label: What the stream is for, with a version, like "covers/v1".
        *parts: Which of several such streams, see `ptynet_plugin.keys.derive`.
    """

    def __init__(self, secret: bytes, label: str, *parts: int | bytes | str) -> None:
        self._key = derive(secret, label, *parts)
        self._block = 0
        self._rest = b""

    def octets(self, count: int) -> NDArray[np.uint8]:
        """Read the next `count` octets, shape (count,)."""
        return np.frombuffer(self._take(count), np.uint8)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Read the next `count` unsigned 64-bit integers (8 octets each, big-endian), shape (count,)."""
        return np.frombuffer(self._take(8 * count), ">u8").astype(np.uint64)

    def bits(self, count: int) -> NDArray[np.uint8]:
        """Read `count` fair bits, 0 or 1, shape (count,); the unused bits of the last octet are dropped."""
        return np.unpackbits(self.octets(-(-count // 8)))[:count]

    def integers(self, bound: int, count: int) -> NDArray[np.int64]:
        """Draw integers uniformly from 0 .. bound - 1, exactly: words that would favour some are rejected.

        Args:
            bound: 1 to 2**63.
            count: How many.

        Returns:
            Shape (count,).
        """
        if not 1 <= bound <= 1 << 63:
            raise UsageError(f"uniform integers need a bound in 1..2**63, got {bound}")
        drawn: NDArray[np.uint64] = np.empty(0, np.uint64)
        largest = np.uint64(WORD_RANGE - WORD_RANGE % bound - 1)
        while len(drawn) < count:
            fresh = self.words(count - len(drawn))
            drawn = np.concatenate([drawn, fresh[fresh <= largest]])
        return (drawn % np.uint64(bound)).astype(np.int64)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Draw a uniformly random order of 0 .. count - 1: the order of `count` distinct random words."""
        while True:
            words = self.words(count)
            if len(np.unique(words)) == count:
                return np.argsort(words).astype(np.int64)

    def _take(self, count: int) -> bytes:
        if count > len(self._rest):
            blocks = -(-(count - len(self._rest)) // BLOCK_BYTES)
            counters = range(self._block, self._block + blocks)
            fresh = b"".join([hmac.digest(self._key, counter.to_bytes(8, "big"), "sha256") for counter in counters])
            self._block += blocks
            self._rest += fresh
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken
