"""Is the decision boundary where it was? Pictures on the straight way between two benign pictures, and right at the boundary.

Hua & Teoh (arXiv 2208.00563) ask a watermark to keep the boundary, not only the answers far from it. Two
measures: the answers along segments, and the answers at pairs of neighbouring pictures between which the host changes
its mind, found by bisection on the host alone. Blends are integer arithmetic; the caller runs the models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.fidelity.metrics import top1

__all__ = [
    "BLEND_STEPS",
    "agreement",
    "blend",
    "boundary_pictures",
    "pair_up",
    "plane_pictures",
    "segment_pictures",
]

Pictures = NDArray[np.uint8]
BLEND_STEPS = 256
"""A blend is a fraction k / 256 of the second picture: finer steps change no pixel."""


def blend(first: Pictures, second: Pictures, weight: NDArray[np.int64]) -> Pictures:
    """Mix pictures pairwise, rounding to the nearest pixel value.

    Args:
        first: Shape (n, height, width, channels), uint8.
        second: The same shape.
        weight: Share of `second` in 1/256, shape (n,), 0..256.

    Returns:
        The same shape; `first` itself at weight 0, `second` at 256.
    """
    share = weight.astype(np.int32)[:, None, None, None]
    mixed = first.astype(np.int32) * (BLEND_STEPS - share) + second.astype(np.int32) * share
    return ((mixed + BLEND_STEPS // 2) // BLEND_STEPS).astype(np.uint8)


def pair_up(count: int, pairs: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Choose pairs of different pictures, shape (pairs, 2), indices in [0, count), count >= 2."""
    generator = np.random.default_rng(seed)
    first = generator.integers(0, count, pairs)
    step = generator.integers(1, count, pairs)
    return np.stack([first, (first + step) % count], axis=1)


def segment_pictures(pictures: Pictures, pairs: NDArray[np.int64], *, points: int) -> Pictures:
    """Give the inner points of the segments between paired pictures.

    Args:
        pictures: Shape (n, height, width, channels).
        pairs: Shape (p, 2).
        points: Points on each segment, both ends left out.

    Returns:
        Shape (p * points, height, width, channels), segment by segment.
    """
    weights = np.linspace(0, BLEND_STEPS, points + 2).round().astype(np.int64)[1:-1]
    first, second = (np.repeat(pictures[pairs[:, side]], points, axis=0) for side in (0, 1))
    return blend(first, second, np.tile(weights, len(pairs)))


def boundary_pictures(
    pictures: Pictures,
    pairs: NDArray[np.int64],
    answer: Callable[[Pictures], NDArray[Any]],
    *,
    classes: NDArray[np.int64] | None = None,
) -> tuple[Pictures, Pictures]:
    """Find, between pictures of different answers, the two closest blends that still differ.

    Args:
        pictures: Shape (n, height, width, channels).
        pairs: Shape (p, 2).
        answer: The host: pictures to scores, shape (rows, classes).
        classes: The host's top classes of the pictures, shape (n,), where they are known; asked for else.

    Returns:
        Two arrays of shape (q, height, width, channels), q <= p, one step of 1/256 apart, with different top classes; pairs the
        host answers alike are left out.
    """
    ends = [top1(answer(pictures[pairs[:, side]])) if classes is None else classes[pairs[:, side]] for side in (0, 1)]
    chosen = pairs[ends[0] != ends[1]]
    first, second, here = pictures[chosen[:, 0]], pictures[chosen[:, 1]], ends[0][ends[0] != ends[1]]
    low, high = np.zeros(len(chosen), np.int64), np.full(len(chosen), BLEND_STEPS, np.int64)
    while len(chosen) and (high - low).max() > 1:
        middle = (low + high) // 2
        stays = top1(answer(blend(first, second, middle))) == here
        low, high = np.where(stays, middle, low), np.where(stays, high, middle)
    return blend(first, second, low), blend(first, second, high)


def agreement(host: NDArray[Any], watermarked: NDArray[Any]) -> float:
    """Give the share of rows with the same top class, 1 where there is no row."""
    return float((top1(host) == top1(watermarked)).mean()) if len(host) else 1.0


def plane_pictures(corners: Pictures, *, side: int) -> Pictures:
    """Give the pictures of the plane through three pictures, a little beyond them: what a slice of the boundary is drawn from.

    Args:
        corners: Shape (3, height, width, channels).
        side: Points each way.

    Returns:
        Shape (side * side, height, width, channels), row by row; clipped to 0..255.
    """
    steps = np.linspace(-BLEND_STEPS // 4, BLEND_STEPS + BLEND_STEPS // 4, side).round().astype(np.int32)
    first, second, third = (corner.astype(np.int32) for corner in corners)
    down, across = np.repeat(steps, side)[:, None, None, None], np.tile(steps, side)[:, None, None, None]
    mixed = first * BLEND_STEPS + (second - first) * across + (third - first) * down
    return np.asarray(np.clip((mixed + BLEND_STEPS // 2) // BLEND_STEPS, 0, 255), np.uint8)
