"""How freely each weight of a layer may move while bits are embedded: what the change of the weights should cost least.

Without knowledge of the data every filter moves by about the same share. With the second moments of the layer's inputs
the change that moves the layer's *outputs* least is known in closed form: for a filter's change d the mean square of what
it adds to the output is d^T C d, C the mean of x x^T over the inputs x (the quadratic that optimal brain surgeon, Hassibi &
Stork 1993, and GPTQ, arXiv 2210.17323, minimise for pruning and quantisation).

A mark that lies only where the data never looks could be wiped off there for free, by whoever has data. So C is damped:
`DAMPING` of its mean eigenvalue is added to all, which leaves the mark readable until such wiping costs accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError

__all__ = ["DAMPING", "Freedom", "by_filter", "by_importance", "by_inputs"]

Floats = NDArray[np.float64]
Freedom = Callable[[Floats], Floats]
"""A symmetric positive map of flat weights to flat weights: the cheapest change lies in its range."""

DAMPING = 0.1
"""Share of the mean eigenvalue of the inputs' second moments added to every direction."""

MOST_FREEDOM = 100.0
"""A weight may move at most this many times as freely as the median one."""


def by_filter(weights: Floats, *, transposed: bool = False) -> Freedom:
    """Let each filter move by about the same share.

    Args:
        weights: Shape (out, ...), or (..., out) where `transposed`.
        transposed: Whether filters lie along the last axis.
    """
    return _times(_by_row(weights, transposed=transposed))


def by_importance(weights: Floats, importance: NDArray[np.floating]) -> Freedom:
    """Let each weight move as freely as it is cheap.

    Args:
        weights: Any shape.
        importance: What a squared change of each weight costs, 0 or more, broadcast to the weights' shape.

    Raises:
        UsageError: It does not fit, or holds values below 0 or NaN.
    """
    try:
        cost = np.broadcast_to(np.asarray(importance, np.float64), weights.shape)
    except ValueError:
        raise UsageError(f"importance of shape {importance.shape} does not fit weights of {weights.shape}") from None
    if not (cost >= 0).all():
        raise UsageError("importance holds values below 0 or NaN; give what a squared change of each weight costs")
    return _times(_within(1 / np.maximum(cost, MOST_FREEDOM**-1 * float(np.median(cost)) + np.finfo(np.float64).tiny)))


def by_inputs(weights: Floats, moments: NDArray[np.floating], *, transposed: bool = False) -> Freedom:
    """Let filters move where their inputs rarely go, so that outputs change least.

    Args:
        weights: Shape (out, ...), or (..., out) where `transposed`.
        moments: Second moments of what a filter reads, mean of x x^T, shape (d, d) with d the weights of one filter in
            the order the tensor keeps them.
        transposed: Whether filters lie along the last axis.

    Raises:
        UsageError: They do not fit, or are not finite.
    """
    rows = weights.shape[-1] if transposed else weights.shape[0]
    size = weights.size // rows
    inputs = np.asarray(moments, np.float64)
    if inputs.shape != (size, size):
        raise UsageError(f"moments of shape {inputs.shape} do not fit filters of {size} weights")
    if not np.isfinite(inputs).all() or np.trace(inputs) <= 0:
        raise UsageError("moments hold NaN, infinity or nothing but zeros; were these pictures shown to the model?")
    damped = inputs + DAMPING * np.trace(inputs) / size * np.eye(size)
    quiet = np.linalg.inv(damped)
    quiet *= size / np.trace(quiet)
    share = _by_row(weights, transposed=transposed).reshape(size, rows) if transposed else None
    if share is not None:
        return lambda change: np.asarray((quiet @ change.reshape(size, rows) * share).reshape(-1))
    tall = _by_row(weights, transposed=False).reshape(rows, size)
    return lambda change: np.asarray((change.reshape(rows, size) @ quiet * tall).reshape(-1))


def _by_row(weights: Floats, *, transposed: bool) -> Floats:
    """Mean square of each filter, one a weight, shape (size,)."""
    axes = tuple(range(weights.ndim - 1)) if transposed else tuple(range(1, weights.ndim))
    squares = np.asarray(np.mean(weights**2, axis=axes, keepdims=True), np.float64)
    return np.ascontiguousarray(np.broadcast_to(_within(squares), weights.shape)).reshape(-1)


def _within(free: Floats) -> Floats:
    """Cut extremes, lest the whole mark sits in a few weights."""
    middle = float(np.median(free[free > 0])) if (free > 0).any() else 1.0
    return np.asarray(np.clip(free, middle / MOST_FREEDOM, middle * MOST_FREEDOM), np.float64)


def _times(free: Floats) -> Freedom:
    flat = free.reshape(-1)
    return lambda change: np.asarray(flat * change)
