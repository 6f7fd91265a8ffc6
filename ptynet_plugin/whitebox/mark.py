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
from ptynet_plugin.whitebox.projection import ROWS, Projection

__all__ = ["BITS", "MARGIN", "PTYNET", "Reading", "WeightMark", "embed", "embedding_cost", "read", "weight_mark"]

Array = NDArray[np.floating]

BITS = ROWS
MARGIN = 3.0
"""Distance of every projection from 0 after embedding, in units of the weights' root mean square."""

PTYNET = b"ptynet"
"""Stands for the model hash in PTYNet's own weights, which are marked while they are made and have no hash before."""

PUBLIC_LABEL = "whitebox-public/v1"
SECRET_LABEL = "whitebox/v1"
MOST_FREEDOM = 100.0
"""A weight may move at most this many times as freely as the median one."""


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
    weights: Array, mark: WeightMark, *, margin: float = MARGIN, importance: NDArray[np.floating] | None = None
) -> Array:
    """Move weights as little as possible until every bit is right by a margin.

    Args:
        weights: One layer's weights, any shape, floating.
        mark: Which bits.
        margin: Distance from 0 in units of the root mean square before the change.
        importance: What a squared change of each weight costs, positive, broadcast to the weights' shape: the mean square of
            the input it multiplies, say. Where None, a filter's weights cost the inverse of their mean square, so that
            every filter changes by about the same share.

    Returns:
        Same shape and dtype. About sqrt(256 (margin^2 + 1) / size) of relative change where filters are alike.

    Raises:
        UsageError: Too few weights, not floating, all zero, or an importance that does not fit.
    """
    _require_floating(weights)
    exact = np.asarray(weights, np.float64)
    if not np.isfinite(exact).all() or not exact.any():
        raise UsageError("these weights are all zero or not finite; there is nothing to mark")
    freedom = _freedom(exact, importance)
    projection, bits = mark.projection(weights.size), mark.bits()
    missing = np.maximum(margin * _rms(exact) - projection.forward(exact) * bits, 0.0) * bits
    change = projection.lift(np.asarray(missing, np.float64), freedom=freedom.reshape(-1))
    return (exact + change.reshape(exact.shape)).astype(weights.dtype)


def embedding_cost(weights: Array, *, margin: float = MARGIN) -> float:
    """Expected relative change of the weights, ||change|| / ||weights||, for a mark of 256 bits."""
    below = margin * margin + 1 - _tail_of_squares(margin)
    return math.sqrt(BITS * below / weights.size)


def read(weights: Array, mark: WeightMark) -> Reading:
    """Read the bits of one tensor.

    Args:
        weights: As embedded, any shape with as many entries.
        mark: Which bits.

    Raises:
        UsageError: Too few weights, or not floating.
    """
    _require_floating(weights)
    exact = np.nan_to_num(np.asarray(weights, np.float64), posinf=0.0, neginf=0.0)
    signed = mark.projection(weights.size).forward(exact) * mark.bits()
    scale = _rms(exact)
    return Reading(int((signed > 0).sum()), float(signed.mean() / scale) if scale else 0.0)


def _freedom(exact: NDArray[np.float64], importance: NDArray[np.floating] | None) -> NDArray[np.float64]:
    """Give how far each weight may move; extremes are cut, lest the whole mark sits in a few weights."""
    if importance is None:
        squares = np.mean(exact.reshape(len(exact), -1) ** 2, axis=1)
        free = np.broadcast_to(squares.reshape(-1, *[1] * (exact.ndim - 1)), exact.shape)
    else:
        try:
            cost = np.broadcast_to(np.asarray(importance, np.float64), exact.shape)
        except ValueError:
            raise UsageError(f"importance of shape {importance.shape} does not fit weights of {exact.shape}") from None
        if not (cost >= 0).all():
            raise UsageError("importance holds values below 0 or NaN; give what a squared change of each weight costs")
        free = 1 / np.maximum(cost, MOST_FREEDOM**-1 * float(np.median(cost)) + np.finfo(np.float64).tiny)
    middle = float(np.median(free[free > 0]))
    return np.asarray(np.clip(free, middle / MOST_FREEDOM, middle * MOST_FREEDOM), np.float64)


def _rms(weights: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(weights * weights)))


def _tail_of_squares(margin: float) -> float:
    """Give E[(z - margin)^2; z > margin] for a standard normal z: what bits that are right already save."""
    density = math.exp(-margin * margin / 2) / math.sqrt(2 * math.pi)
    beyond = 0.5 * math.erfc(margin / math.sqrt(2))
    return (margin * margin + 1) * beyond - margin * density


def _require_floating(weights: Array) -> None:
    if not np.issubdtype(weights.dtype, np.floating):
        raise UsageError(f"weights are {weights.dtype}; multiply quantised weights by their scales first")
