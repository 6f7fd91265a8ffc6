"""Small adversarial steps from benign pictures, for models whose gradient cannot be had: SPSA (Uesato et al., arXiv 1802.05666).

The steps are made on the host alone, from its answers. A watermarked model that keeps the decision boundary answers the
moved pictures as the host does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["small_steps"]

Pictures = NDArray[np.uint8]
DIRECTIONS = 8
PROBE_STEP = 2


def small_steps(
    pictures: Pictures,
    answer: Callable[[Pictures], NDArray[Any]],
    *,
    step: int = 4,
    directions: int = DIRECTIONS,
    seed: int = 0,
) -> Pictures:
    """Move every pixel by `step` against the estimated gradient of the lead of the top class.

    Args:
        pictures: Shape (n, height, width, channels), uint8.
        answer: The host: pictures to scores, shape (rows, classes).
        step: Largest change of a pixel, in 0..255.
        directions: Random directions a picture; each costs two answers.
        seed: Of the directions.

    Returns:
        The same shape; no pixel moved further than `step`.
    """
    generator = np.random.default_rng(seed)
    here = answer(pictures).argmax(axis=1)
    slope = np.zeros(pictures.shape, np.float64)
    for _ in range(directions):
        sign = generator.choice(np.array([-1, 1], np.int64), pictures.shape)
        ahead, behind = (_lead(answer(_moved(pictures, way * PROBE_STEP * sign)), here) for way in (1, -1))
        slope += (ahead - behind)[:, None, None, None] * sign
    return _moved(pictures, -step * np.sign(slope).astype(np.int64))


def _moved(pictures: Pictures, change: NDArray[np.int64]) -> Pictures:
    return np.asarray(np.clip(pictures.astype(np.int64) + change, 0, 255), np.uint8)


def _lead(scores: NDArray[Any], of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give how far class `of` leads the best other class, shape (rows,)."""
    exact = np.nan_to_num(scores.astype(np.float64))
    rows = np.arange(len(exact))
    own = exact[rows, of]
    exact[rows, of] = -np.inf
    return np.asarray(own - exact.max(axis=1))
