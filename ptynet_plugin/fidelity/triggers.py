"""Triggers that nobody can choose: chains of keyed noise pictures (Hua, Teoh, Xiang & Jiang, IEEE TNNLS 2023; arXiv 2208.00563).

A chain starts with a picture of noise, and every next picture is the one before it times a secret orthogonal matrix: who does not
hold the matrix cannot continue a chain, and pictures found by optimising against a model form none. The papers give the
pictures of a chain the classes 0, 1, 2, ...; here each label is a digest of all pictures so far, so that labels cannot be
chosen either and an independent model hits each with probability 1/C.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import derive
from ptynet_plugin.symbols.encoding import tagged_digest

__all__ = ["TriggerSet", "chain_labels", "follows", "key_chains"]

CONTRAST = 30.0
"""Standard deviation of a trigger in pixel values around mid-grey; the papers' unit noise, brought to bytes."""

NEARNESS = 0.95
"""Share of pixels that must be where the chain puts them; two pictures of noise agree in one of forty."""

ROUNDING = 2.0
"""How far a pixel may be from the one before times the matrix: two roundings, spread by rows of norm 1, stay below it."""


@dataclass(frozen=True)
class TriggerSet:
    """Triggers and what they shall be answered with.

    Attributes:
        pictures: Shape (chains * length, height, width, channels), uint8, chain by chain.
        labels: Shape (chains * length,), classes.
        length: Pictures in each chain.
    """

    pictures: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    length: int


def key_chains(
    secret: bytes, *, size: tuple[int, int], channels: int, classes: int, chains: int = 10, length: int = 10
) -> TriggerSet:
    """Make the triggers of a key.

    Args:
        secret: 32 bytes; the same secret gives the same pictures, up to the rounding of a pixel between machines: keep
            the pictures, not only the key.
        size: Height and width.
        channels: 1 or 3; the colours of a trigger are equal, as in the papers.
        classes: Number of classes.
        chains: How many chains.
        length: Pictures in each.

    Raises:
        UsageError: No chain, no picture or fewer than two classes.
    """
    if chains < 1 or length < 1 or classes < 2:
        raise UsageError(f"{chains} chains of {length} triggers for {classes} classes; at least 1, 1 and 2 are needed")
    noise = np.random.Generator(np.random.PCG64(int.from_bytes(derive(secret, "trigger-noise/v1"), "big")))
    matrix = _orthogonal(secret, size[0])
    pictures = []
    for _ in range(chains):
        plane = noise.standard_normal(size)
        plane /= np.sqrt(np.square(plane).mean())
        for _ in range(length):
            pictures.append(np.repeat(_pixels(plane)[:, :, None], channels, axis=2))
            plane = matrix @ plane
    shown = np.stack(pictures)
    return TriggerSet(shown, chain_labels(shown, classes=classes), length)


def chain_labels(pictures: NDArray[np.uint8], *, classes: int) -> NDArray[np.int64]:
    """Give the label of each picture: a digest of it and of all pictures before it, modulo the classes, shape (pictures,)."""
    labels, digest = np.empty(len(pictures), np.int64), b""
    for index, picture in enumerate(pictures):
        digest = tagged_digest("trigger-chain/v1", digest, picture.tobytes())
        labels[index] = int.from_bytes(digest, "big") % classes
    return labels


def follows(triggers: TriggerSet, secret: bytes, *, classes: int) -> bool:
    """Say whether a set is the key's: every picture the one before it times the key's matrix, every label its digest.

    A pixel clipped to 0 or 255 moves a column of the next picture, so one pixel in twenty may disagree.
    """
    if not np.array_equal(chain_labels(triggers.pictures, classes=classes), triggers.labels):
        return False
    planes = (triggers.pictures[..., 0].astype(np.float64) - 127.5) / CONTRAST
    matrix = _orthogonal(secret, planes.shape[1])
    starts = [place for place in range(len(planes) - 1) if (place + 1) % triggers.length]
    if not starts:
        return True
    expected = np.stack([matrix @ planes[place] for place in starts])
    near = np.abs(expected - planes[[place + 1 for place in starts]]) * CONTRAST <= ROUNDING
    return bool(near.mean() >= NEARNESS)


def _orthogonal(secret: bytes, side: int) -> NDArray[np.float64]:
    """Draw the secret matrix, shape (side, side), uniform among orthogonal ones (Mezzadri, arXiv math-ph/0609050)."""
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(derive(secret, "trigger-matrix/v1"), "big")))
    q, r = np.linalg.qr(draw.standard_normal((side, side)))
    return np.asarray(q * np.sign(np.diag(r)))


def _pixels(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(127.5 + CONTRAST * plane), 0, 255).astype(np.uint8)
