"""k nearest neighbours (Sun, Ming, Zhu and Li, "Out-of-distribution Detection with Deep Nearest Neighbors", ICML 2022,
arXiv 2204.06507): the distance to the k-th nearest benign picture, in features scaled to length 1.

The paper's features are the penultimate ones of a network; where the thief has none at hand, thumbnails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.hostile.contract import Picture
from model_store_tools.audit.hostile.filters.gate import Detector
from ptynet_plugin.images.resize import resize

__all__ = ["Features", "nearest", "thumbnails"]

Features = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""Pictures (n, height, width, channels) to features (n, any)."""

SIDE = 8


def nearest(features: Features, benign: NDArray[np.uint8], *, k: int = 10) -> Detector:
    """Measure the distance to the k-th nearest of the benign pictures.

    Args:
        features: Of pictures.
        benign: Shape (pictures, height, width, channels), more than k.
        k: Which neighbour; the paper's sweep finds 50 of 50,000 best, a thief has fewer pictures.
    """
    known = _scaled(features(benign))

    def measure(picture: Picture) -> float:
        return float(np.partition(np.linalg.norm(known - _scaled(features(picture[None])), axis=1), k)[k])

    return measure


def thumbnails(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Give the 8x8 thumbnail of each picture around its own mean, shape (n, 64 * channels)."""
    small = np.stack([resize(picture, (SIDE, SIDE)) for picture in pictures]).astype(np.float64)
    return np.asarray((small - small.mean(axis=(1, 2, 3), keepdims=True)).reshape(len(pictures), -1))


def _scaled(features: NDArray[Any]) -> NDArray[np.float64]:
    flat = np.asarray(features, np.float64).reshape(len(features), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))
