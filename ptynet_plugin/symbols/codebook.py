"""Code words: J keyed words of n bits, kept apart from one another.

The words are a keyed coset of a keyed linear code: word i is the sum (mod 2) of the generators that the binary digits of i
select, plus a keyed shift, in a keyed order. Two words differ as often as some non-zero code word has ones, so that all
J(J - 1)/2 pairs are checked with fewer than 2J weights; drawing words one by one would need millions of trials
at J = 4096, n = 71. Every single word is uniform over all 2**n (the shift is), which is all the false-fire bound needs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.symbols.stream import KeyStream

__all__ = ["MAX_CORRELATION", "MAX_SYMBOLS", "code_words", "least_distance"]

MAX_CORRELATION = 0.35
"""No two code words correlate more than this; negative correlation is no limit."""

MAX_SYMBOLS = 4096

EXPECTED_CLOSE = 12
"""Words too close to be expected in a random code of the chosen distance: the last generator then takes e**6 trials."""

FEWEST = 512
"""Codes of fewer words keep no more distance than one of so many: the last steps towards the most possible are the longest."""

TRIALS = 20_000


def code_words(secret: bytes, *, symbols: int, bits: int) -> NDArray[np.int8]:
    """Make the code words of a key.

    Args:
        secret: 32 bytes, see `OwnerKey.probe_secret`.
        symbols: Number J of words, 2 to 4096. Fewer symbols are not a part of more: the code differs.
        bits: Length n of a word.

    Returns:
        Shape (symbols, bits), entries +1 and -1; the correlation w_i . w_j / n of two words is at most `MAX_CORRELATION`,
        and as much less as a short search allows (0.21 for 512 words of 94 bits).

    Raises:
        UsageError: Too many symbols, or words too short to keep that many apart.
    """
    if not 2 <= symbols <= MAX_SYMBOLS:
        raise UsageError(f"symbols must be in 2..{MAX_SYMBOLS}, got {symbols}")
    stream = KeyStream(secret, "codebook/v1", symbols, bits)
    dimension = (symbols - 1).bit_length()
    words = np.zeros((1, bits), np.uint8)
    distance = least_distance(bits, symbols=symbols)
    for _ in range(dimension):
        words = _extended(words, stream, distance)
    order = stream.permutation(len(words))[:symbols]
    shifted = words[order] ^ stream.bits(bits)
    return (1 - 2 * shifted.astype(np.int8)).astype(np.int8)


def least_distance(bits: int, *, symbols: int) -> int:
    """Give the Hamming distance that all words of a code keep: as large as a short search is sure to find.

    Args:
        bits: Length n of a word.
        symbols: Number of words, rounded up to a power of two.

    Returns:
        The largest d at which at most `EXPECTED_CLOSE` of the code's non-zero words are expected below d ones,
        and at least the d at which the correlation (n - 2d)/n stays within `MAX_CORRELATION`.
    """
    others = max(FEWEST, 2 ** (symbols - 1).bit_length()) - 1
    distance, lighter = 0, 1  # words of fewer than distance + 1 ones
    while others * lighter <= EXPECTED_CLOSE << bits:
        distance += 1
        lighter += math.comb(bits, distance)
    return max(distance, -int(-bits * (1000 - round(1000 * MAX_CORRELATION)) // 2000))


def _extended(words: NDArray[np.uint8], stream: KeyStream, distance: int) -> NDArray[np.uint8]:
    """Double a linear code by one generator that keeps every non-zero word at `distance` ones or more."""
    bits = words.shape[1]
    for _ in range(TRIALS):
        added = words ^ stream.bits(bits)
        if int(added.sum(axis=1, dtype=np.int64).min()) >= distance:
            return np.concatenate([words, added])
    raise UsageError(
        f"no {2 * len(words)} code words of {bits} bits with correlation <= {MAX_CORRELATION}; "
        "ask for fewer symbols or more bits"
    )
