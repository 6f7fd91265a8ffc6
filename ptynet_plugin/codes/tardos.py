"""The code words of copies: a bias-based code that survives collusion.

Plain random words fail: three colluders who always answer with the minority output the XOR of their words, and no single
word is then correlated with the answers. Tardos ("Optimal probabilistic fingerprint codes", J. ACM 55(2), 2008) draws a
secret bias p_j per position and bit j of every word with that bias; Nuida et al. ("An improvement of discrete Tardos
fingerprinting codes", Des. Codes Cryptogr. 52, 2009) give the few biases that suffice for c0 colluders, the
Gauss-Legendre points. For c0 = 4 these are 0.21132 and 0.78868.

The word of copy i is a pseudo-random function of the secret and of i alone: it exists before the copy is issued and is
found again when the registry is lost. Position j's bias and the orientation of its label pair are drawn under other
labels than the words, so none of the three tells anything of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ptynet_plugin.keys import derive

__all__ = ["CopyCode", "counter_stream", "discrete_biases"]

_SCALE = 1 << 16
_BLOCK = 16


def discrete_biases(coalition: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the biases and their probabilities for a coalition of `coalition` colluders.

    Args:
        coalition: c0, from 1.

    Returns:
        Biases in (0, 1), ascending and symmetric about 1/2, shape (ceil(c0 / 2),), and their probabilities.
    """
    if coalition < 1:
        raise ValueError(f"a coalition of {coalition} is none")
    points, weights = np.polynomial.legendre.leggauss((coalition + 1) // 2)
    biases = (points + 1.0) / 2.0
    weights = weights / np.sqrt(biases * (1.0 - biases))
    return biases, weights / weights.sum()


@dataclass(frozen=True)
class CopyCode:
    """The code of one claim's copies.

    Attributes:
        secret: 32 secret bytes.
        positions: Length of a word; a multiple of 8.
        coalition: c0, the number of colluders that the biases are made for.
    """

    secret: bytes
    positions: int = 512
    coalition: int = 4

    def __post_init__(self) -> None:
        if self.positions < 8 or self.positions % 8:
            raise ValueError(f"a code word has a multiple of 8 positions, not {self.positions}")
        discrete_biases(self.coalition)

    def levels(self) -> NDArray[np.int64]:
        """Give the secret number of every position's bias among `biases()`, shape (positions,)."""
        _, weights = discrete_biases(self.coalition)
        key = derive(self.secret, "copy-biases/v1", self.positions, self.coalition)
        drawn = np.frombuffer(counter_stream(key, 0, 8 * self.positions), dtype="<u8")
        limits = np.array([int(share * 2**64) for share in np.cumsum(weights)[:-1]], dtype=np.uint64)
        return np.searchsorted(limits, drawn, side="right").astype(np.int64)

    def biases(self) -> NDArray[np.float64]:
        """Give the biases of the levels as the words realise them, multiples of 1/65536: shape (levels,)."""
        return self._thresholds() / _SCALE

    def words(self, first: int, count: int) -> NDArray[np.uint8]:
        """Make the words of the copies `first` to `first + count - 1`.

        Args:
            first: Number of a copy, from 1; a number is never given twice.
            count: How many.

        Returns:
            Bits packed eight to a byte, the first position highest: shape (count, positions / 8).
        """
        if first < 1 or count < 0:
            raise ValueError(f"copies are numbered from 1; {count} copies from {first} cannot be")
        key = derive(self.secret, "copy-words/v1", self.positions, self.coalition)
        octets = 2 * self.positions
        drawn = np.frombuffer(counter_stream(key, first * octets, count * octets), dtype="<u2")
        limits = self._thresholds().astype(np.uint16)[self.levels()]
        return np.packbits(drawn.reshape(count, self.positions) < limits, axis=1)

    def word(self, copy: int) -> NDArray[np.uint8]:
        """Make the bits of one copy's word: shape (positions,), 0 or 1."""
        return np.unpackbits(self.words(copy, 1)[0])

    def _thresholds(self) -> NDArray[np.int64]:
        return np.rint(discrete_biases(self.coalition)[0] * _SCALE).astype(np.int64)


def counter_stream(key: bytes, start: int, length: int) -> bytes:
    """Give octets `start` to `start + length` of the AES-256 counter stream under `key`; `start` on a block."""
    counter = (start // _BLOCK).to_bytes(_BLOCK, "big")
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()
    return encryptor.update(bytes(length))
