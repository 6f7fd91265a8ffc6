"""The leaves: each symbol's probes, committed as bytes, so that a judge hashes pictures and never re-derives them.

leaf_j  = SHA-256(encode("leaf/v1", nonce_j, j, SHA-256(pixels)))
pixels  = the k probes of symbol j at the claim's size, uint8, (height, width, channels) in C order, one after another
nonce_j = HKDF-SHA256(epoch secret, "leaf-nonce/v1", j)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.keys import derive
from ptynet_plugin.symbols.encoding import tagged_digest

__all__ = ["PictureMaker", "leaf", "leaf_nonces", "pixels_digest", "probe_leaves"]


class PictureMaker(Protocol):
    """Makes the picture of a symbol over one of its covers, see `ProbeMaker.probe`."""

    def __call__(self, symbol: int, cover: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Give uint8 pixels, shape (height, width, channels)."""


def leaf_nonces(secret: bytes, symbols: int) -> list[bytes]:
    """Derive the secret nonce of every symbol, 32 bytes each; opening one tells nothing of the others.

    Args:
        secret: The epoch's secret, 32 bytes.
        symbols: J.
    """
    return [derive(secret, "leaf-nonce/v1", symbol) for symbol in range(symbols)]


def pixels_digest(pictures: Sequence[NDArray[np.uint8]]) -> bytes:
    """Give SHA-256 over the pictures' pixels, one after another: 32 bytes."""
    digest = hashlib.sha256()
    for picture in pictures:
        if picture.dtype != np.uint8:
            raise TypeError(f"a probe has uint8 pixels, this one {picture.dtype}")
        digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()


def leaf(nonce: bytes, symbol: int, pixels: bytes) -> bytes:
    """Give the leaf of one symbol from its nonce and its `pixels_digest`: 32 bytes."""
    return tagged_digest("leaf/v1", nonce, symbol, pixels)


def probe_leaves(
    nonces: Sequence[bytes], make_probe: PictureMaker, *, covers: int, size: tuple[int, int]
) -> list[bytes]:
    """Make every symbol's probes and give their leaves.

    Args:
        nonces: One per symbol, see `leaf_nonces`.
        make_probe: `ProbeMaker.probe`.
        covers: k, covers per symbol.
        size: Height and width in pixels.
    """
    return [
        leaf(nonce, symbol, pixels_digest([make_probe(symbol, cover, size) for cover in range(covers)]))
        for symbol, nonce in enumerate(nonces)
    ]
