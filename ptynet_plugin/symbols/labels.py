"""The keyed labels: which class each symbol raises, uniform and unpredictable until the claim's salt exists.

T[j] is drawn by rejection from HMAC-SHA256(nonce_j, salt, model id, C, j), so it is exactly uniform over the C classes.
The salt is made after the probes were committed: whoever chose the probes could not know which answer would count, and
that is what makes the null rate 1/C exact for every model that was not built from the key (the answer to "False Claims
against Model Ownership Resolution", arXiv 2304.06607).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.symbols.encoding import encode

__all__ = ["label_of", "label_pair_of", "label_pairs", "label_table"]

_WORD = 1 << 64


def label_table(nonces: Sequence[bytes], *, salt: bytes, model_id: str, classes: int) -> NDArray[np.int64]:
    """Draw the label of every symbol.

    Args:
        nonces: One secret nonce of 32 bytes per symbol.
        salt: What the claim got after its probes were committed, see `Claim.salt`.
        model_id: Digest of the target's tensors, so that no two models share labels.
        classes: C, at least 2.

    Returns:
        Shape (symbols,), integers in [0, classes), independent and exactly uniform; the same on every machine.
    """
    drawn = (
        label_of(symbol, nonce, salt=salt, model_id=model_id, classes=classes) for symbol, nonce in enumerate(nonces)
    )
    return np.fromiter(drawn, dtype=np.int64, count=len(nonces))


def label_of(symbol: int, nonce: bytes, *, salt: bytes, model_id: str, classes: int) -> int:
    """Draw one symbol's label, as `label_table` does for all."""
    return _below(_checked(classes), _words(nonce, "label/v1", salt, model_id, classes, symbol))


def label_pairs(nonces: Sequence[bytes], *, salt: bytes, model_id: str, classes: int) -> NDArray[np.int64]:
    """Draw two different labels for every symbol: bit 1 of a copy's word answers the first, bit 0 the second.

    Args:
        nonces: One secret nonce of 32 bytes per symbol.
        salt: As for `label_table`.
        model_id: As for `label_table`.
        classes: C, at least 2.

    Returns:
        Shape (symbols, 2), uniform over the C (C - 1) ordered pairs: an independent answer lies in the pair with
        probability exactly 2 / C. Independent of `label_table` over the same nonces.
    """
    pairs = np.empty((len(nonces), 2), dtype=np.int64)
    for symbol, nonce in enumerate(nonces):
        pairs[symbol] = label_pair_of(symbol, nonce, salt=salt, model_id=model_id, classes=classes)
    return pairs


def label_pair_of(symbol: int, nonce: bytes, *, salt: bytes, model_id: str, classes: int) -> tuple[int, int]:
    """Draw one symbol's pair of labels, as `label_pairs` does for all."""
    words = _words(nonce, "label-pair/v1", salt, model_id, classes, symbol)
    first, other = _below(_checked(classes), words), _below(classes - 1, words)
    return first, other + (other >= first)


def _words(nonce: bytes, *purpose: int | str | bytes) -> Iterator[int]:
    """Give 64-bit words without end: HMAC-SHA256 keyed with the nonce, over a counter."""
    counter = 0
    while True:
        block = hmac.digest(nonce, encode(*purpose, counter), "sha256")
        yield from (int.from_bytes(block[at : at + 8], "big") for at in range(0, 32, 8))
        counter += 1


def _below(limit: int, words: Iterator[int]) -> int:
    """Draw from [0, limit) by rejection: words above the last whole multiple of `limit` are thrown away."""
    whole = _WORD - _WORD % limit
    return next(word for word in words if word < whole) % limit


def _checked(classes: int) -> int:
    if classes < 2:
        raise ValueError(f"labels need at least 2 classes, not {classes}")
    return classes
