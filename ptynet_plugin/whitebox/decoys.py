"""A second opinion on a reading after alignment: does the true key stand out among decoy keys, through the same alignment?

The binomial p-value is exact where nothing that was done to the suspect's weights knew the bits. Alignment to a reference
from which the mark was projected out knows the key's directions, not its bits, which are a hash. Who does not want to follow
that argument looks at the rank: the aligned weights are read with decoy keys too, p = (1 + decoys at least as good) /
(1 + decoys), which assumes no distribution at all. Decoys are drawn as keys are, except that up to `SETS` of them share a
transform's signs, on rows of which no two have one in common, each with bits of its own: given the weights their counts are
independent, as the bits are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.whitebox.mark import within_reach
from ptynet_plugin.whitebox.projection import ROWS, walsh_hadamard
from ptynet_plugin.whitebox.several import joint_terms

__all__ = ["DECOYS", "DecoyRank", "decoy_rank"]

Array = NDArray[np.floating]

DECOYS = 10_000
SETS = 64
"""Decoys from one transform, fewer in small layers."""


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


def decoy_rank(weights: Array | Sequence[Array], right: int, *, decoys: int = DECOYS, seed: int = 0) -> DecoyRank:
    """Rank a reading among decoy keys, whose signs, rows and bits are drawn as a key's are.

    Args:
        weights: The aligned weights that were read, or several that were read together.
        right: Bits the true key matched.
        decoys: Number of decoy keys.
        seed: Of the decoys.
    """
    terms = (
        {weights.size: within_reach(weights).reshape(-1)} if isinstance(weights, np.ndarray) else joint_terms(weights)
    )
    generator = np.random.default_rng(seed)
    sets = min(SETS, *(_padded(size) // ROWS for size in terms))
    matched: list[int] = []
    while len(matched) < decoys:
        positive = np.sum([_projected(flat, sets, generator) for flat in terms.values()], axis=0) > 0
        bits = generator.integers(0, 2, positive.shape, np.int8).astype(np.bool_)
        matched += (positive == bits).sum(axis=1).tolist()
    counts = np.array(matched[:decoys])
    return DecoyRank(decoys, int((counts >= right).sum()), int(counts.max()))


def _projected(flat: NDArray[np.float64], sets: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Project weights with the directions of several decoys, shape (sets, 256)."""
    spread = np.zeros(_padded(flat.size))
    flips = np.unpackbits(generator.integers(0, 256, -(-flat.size // 8), np.uint8))[: flat.size]
    spread[: flat.size] = np.where(flips, -flat, flat)
    rows = generator.choice(len(spread), sets * ROWS, replace=False, shuffle=True)
    return np.asarray(walsh_hadamard(spread)[rows].reshape(sets, ROWS) / np.sqrt(flat.size))


def _padded(size: int) -> int:
    return 1 << (size - 1).bit_length()
