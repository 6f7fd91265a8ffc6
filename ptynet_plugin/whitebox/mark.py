"""The mark in the weights: which 256 bits, where, embedded by the least change and read with an exact p-value.

The bits are a hash, so nobody chooses them: b = SHA-256(owner's public part, model hash, salt). Weights that were not
made with the key match each bit with probability 1/2 exactly, whatever their distribution: the number of right bits is
Binomial(256, 1/2), and p < 1e-9 needs 176 of 256.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.statistics.binomial import log10_binomial_p_value
from ptynet_plugin.symbols.encoding import tagged_digest
from ptynet_plugin.whitebox.freedom import by_filter, by_importance, by_inputs
from ptynet_plugin.whitebox.projection import ROWS, Projection

__all__ = [
    "BITS",
    "MARGIN",
    "PTYNET",
    "Reading",
    "WeightMark",
    "embed",
    "embedding_cost",
    "read",
    "rms",
    "weight_mark",
    "within_reach",
]

Array = NDArray[np.floating]

BITS = ROWS
MARGIN = 3.0
"""Distance of every projection from 0 after embedding, in units of the weights' root mean square."""

PTYNET = b"ptynet"
"""Stands for the model hash in PTYNet's own weights, which are marked while they are made and have no hash before."""

PUBLIC_LABEL = "whitebox-public/v1"
SECRET_LABEL = "whitebox/v1"
REACH = 16.0
"""How far from 0 a weight is believed, in medians of their sizes: 10.8 standard deviations of normal weights."""

HISTOGRAM_ROUNDS = 8
"""Giving weights their old values back costs some margin; embedding again and again brings it close to what was asked."""


@dataclass(frozen=True)
class WeightMark:
    """Which bits go where.

    Attributes:
        public: The owner's public part, 32 bytes: may be shown, and fixes the bits together with model and salt.
        secret: 32 secret bytes the projections are made from.
        model: Hash of the model before it was marked, or `PTYNET`.
        salt: Of this embedding; empty by default.
    """

    public: bytes
    secret: bytes = field(repr=False)
    model: bytes
    salt: bytes = b""

    def bits(self) -> NDArray[np.int8]:
        """Give the 256 bits as +1 and -1."""
        digest = tagged_digest("whitebox-bits/v1", self.public, self.model, self.salt)
        return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.int8) * 2 - 1

    def projection(self, size: int) -> Projection:
        """Give the directions for a tensor of `size` weights; its shape does not matter, so reshaping changes nothing.

        Raises:
            UsageError: Too few weights.
        """
        return Projection(hashlib.sha256(self.secret + self.model + self.salt).digest(), size)


@dataclass(frozen=True)
class Reading:
    """What was read from one tensor.

    Attributes:
        right: Bits that are the mark's, 0..256.
        strength: Mean projection in the bits' direction, in units of the weights' root mean square; 0 for unmarked weights.
    """

    right: int
    strength: float

    @property
    def error_rate(self) -> float:
        """Share of wrong bits."""
        return 1 - self.right / BITS

    @property
    def log10_p(self) -> float:
        """Give log10 of the probability that weights made without the key match as many bits."""
        return log10_binomial_p_value(self.right, BITS, 0.5)


def weight_mark(key: OwnerKey, *, model: bytes = PTYNET, salt: bytes = b"") -> WeightMark:
    """Derive the mark of one model from the owner key."""
    return WeightMark(key.derive(PUBLIC_LABEL), key.derive(SECRET_LABEL), model, salt)


def embed(
    weights: Array,
    mark: WeightMark,
    *,
    margin: float = MARGIN,
    importance: NDArray[np.floating] | None = None,
    moments: NDArray[np.floating] | None = None,
    transposed: bool = False,
    keep_histogram: bool = False,
) -> Array:
    """Move weights as little as possible until every bit is right by a margin.

    Args:
        weights: One layer's weights, any shape, floating; filters lie along the first axis.
        mark: Which bits.
        margin: Distance from 0 in units of the root mean square before the change.
        importance: What a squared change of each weight costs, see `by_importance`.
        moments: Second moments of what a filter reads, see `by_inputs`: the layer's outputs then change least. Where neither
            is given, every filter changes by about the same share.
        transposed: Whether filters lie along the last axis instead.
        keep_histogram: Give the changed weights the very values of the old ones, by rank: no test on their distribution can
            then tell. It costs the advantage of `moments`; for weights that are trained afterwards.

    Returns:
        Same shape and dtype. About sqrt(256 (margin^2 + 1) / size) of relative change where filters are alike.

    Raises:
        UsageError: Too few weights, not floating, all zero, or an importance or moments that do not fit.
    """
    _require_floating(weights)
    exact = np.asarray(weights, np.float64)
    if not np.isfinite(exact).all() or not exact.any():
        raise UsageError("these weights are all zero or not finite; there is nothing to mark")
    if moments is not None:
        freedom = by_inputs(exact, moments, transposed=transposed)
    elif importance is not None:
        freedom = by_importance(exact, importance)
    else:
        freedom = by_filter(exact, transposed=transposed)
    projection, signs = mark.projection(weights.size), mark.bits().astype(np.float64)
    wanted, values = margin * rms(within_reach(exact)), np.sort(exact, axis=None)
    for _ in range(HISTOGRAM_ROUNDS if keep_histogram else 1):
        missing = np.maximum(wanted - projection.forward(within_reach(exact)) * signs, 0.0) * signs
        exact = exact + projection.lift(missing, freedom=freedom).reshape(exact.shape)
        if keep_histogram:
            exact = _by_rank(exact, values)
    return exact.astype(weights.dtype)


def embedding_cost(weights: Array, *, margin: float = MARGIN) -> float:
    """Expected relative change of the weights, ||change|| / ||weights||, for a mark of 256 bits."""
    below = margin * margin + 1 - _tail_of_squares(margin)
    return math.sqrt(BITS * below / weights.size)


def read(weights: Array, mark: WeightMark) -> Reading:
    """Read the bits of one tensor.

    Args:
        weights: As embedded, any shape with as many entries. What is not finite counts as 0, and what lies out of reach of
            the others is cut: one huge weight behind a channel that is never active would drown every bit.
        mark: Which bits.

    Raises:
        UsageError: Too few weights, or not floating.
    """
    _require_floating(weights)
    exact = within_reach(np.asarray(weights, np.float64))
    signed = mark.projection(weights.size).forward(exact) * mark.bits()
    scale = rms(exact)
    return Reading(int((signed > 0).sum()), float(signed.mean() / scale) if scale else 0.0)


def within_reach(weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cut weights to `REACH` times the median size of those that are not 0; what is not finite becomes 0."""
    exact = np.asarray(weights, np.float64)
    exact = np.where(np.isfinite(exact), exact, 0.0)
    sizes = np.abs(exact[exact != 0])
    limit = REACH * float(np.median(sizes)) if sizes.size else 0.0
    return np.asarray(np.clip(exact, -limit, limit))


def rms(weights: NDArray[np.float64]) -> float:
    """Root mean square, safe for very small and very large weights."""
    largest = float(np.abs(weights).max(initial=0.0))
    return largest * float(np.sqrt(np.mean((weights / largest) ** 2))) if largest else 0.0


def _by_rank(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the smallest weight the smallest value, and so on."""
    changed = np.empty(weights.size)
    changed[np.argsort(weights, axis=None, kind="stable")] = values
    return changed.reshape(weights.shape)


def _tail_of_squares(margin: float) -> float:
    """Give E[(z - margin)^2; z > margin] for a standard normal z: what bits that are right already save."""
    density = math.exp(-margin * margin / 2) / math.sqrt(2 * math.pi)
    beyond = 0.5 * math.erfc(margin / math.sqrt(2))
    return (margin * margin + 1) * beyond - margin * density


def _require_floating(weights: Array) -> None:
    if not np.issubdtype(weights.dtype, np.floating):
        raise UsageError(f"weights are {weights.dtype}; multiply quantised weights by their scales first")
