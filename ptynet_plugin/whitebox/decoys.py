"""A second opinion on a reading after alignment: does the true key stand out among decoy keys, through the same alignment?

The binomial p-value is exact where nothing that was done to the suspect's weights knew the key. Alignment to a reference
from which the mark was projected out knows it a little; so the aligned weights are read with decoy keys too, and the
p-value is the rank, p = (1 + decoys at least as good) / (1 + decoys), which assumes no distribution at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.whitebox.projection import ROWS, walsh_hadamard

__all__ = ["DECOYS", "DecoyRank", "decoy_rank"]

DECOYS = 10_000
MOST_WORK = DECOYS << 18
"""Layers above 2**18 weights are ranked among fewer decoys, so that a rank takes a minute at most."""


@dataclass(frozen=True)
class DecoyRank:
    """Where the true key stands.

    Attributes:
        decoys: Number of decoy keys.
        at_least_as_good: Decoys that matched as many bits or more.
        best: Most bits any decoy matched.
    """

    decoys: int
    at_least_as_good: int
    best: int

    @property
    def p_value(self) -> float:
        """(1 + decoys at least as good) / (1 + decoys)."""
        return (1 + self.at_least_as_good) / (1 + self.decoys)


def decoy_rank(weights: NDArray[np.floating], right: int, *, decoys: int = DECOYS, seed: int = 0) -> DecoyRank:
    """Rank a reading among decoy keys, whose signs, rows and bits are drawn as a key's are.

    Args:
        weights: The aligned weights that were read.
        right: Bits the true key matched.
        decoys: Number of decoy keys; fewer for a very large layer.
        seed: Of the decoys.
    """
    flat = np.nan_to_num(np.asarray(weights, np.float64).reshape(-1))
    padded = 1 << (flat.size - 1).bit_length()
    count = max(1, min(decoys, MOST_WORK // padded))
    generator = np.random.default_rng(seed)
    matched = np.array([_matched(flat, padded, generator) for _ in range(count)])
    return DecoyRank(count, int((matched >= right).sum()), int(matched.max()))


def _matched(flat: NDArray[np.float64], padded: int, generator: np.random.Generator) -> int:
    spread = np.zeros(padded)
    flips = np.unpackbits(generator.integers(0, 256, -(-flat.size // 8), np.uint8))[: flat.size]
    spread[: flat.size] = np.where(flips, -flat, flat)
    rows = generator.choice(padded, ROWS, replace=False, shuffle=True)
    positive = walsh_hadamard(spread)[rows] > 0
    return int((positive == generator.integers(0, 2, ROWS, np.int8).astype(np.bool_)).sum())
