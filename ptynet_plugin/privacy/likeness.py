"""How like the original is a picture that an attacker made? PSNR and SSIM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

__all__ = ["psnr", "ssim"]

WINDOW = 7
C1, C2 = 0.01**2, 0.03**2

Floats = NDArray[np.float64]


def psnr(originals: Floats, made: Floats) -> Floats:
    """Give the peak signal-to-noise ratio of each picture in decibels.

    Args:
        originals: Shape (n, height, width, channels), 0..1.
        made: The same shape.

    Returns:
        Shape (n,); infinite for equal pictures.
    """
    errors = np.square(originals - made).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(-10 * np.log10(errors))


def ssim(originals: Floats, made: Floats) -> Floats:
    """Give the structural similarity of each picture, mean over channels and 7x7 windows that lie inside.

    Wang et al., IEEE Transactions on Image Processing 13, 2004, with uniform windows and sample covariances.

    Args:
        originals: Shape (n, height, width, channels), 0..1, sides at least 7.
        made: The same shape.

    Returns:
        Shape (n,), at most 1.
    """
    size = (1, WINDOW, WINDOW, 1)
    x, y = originals.astype(np.float64), made.astype(np.float64)
    mean_x, mean_y = uniform_filter(x, size), uniform_filter(y, size)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variance_x = sample * (uniform_filter(x * x, size) - mean_x**2)
    variance_y = sample * (uniform_filter(y * y, size) - mean_y**2)
    covariance = sample * (uniform_filter(x * y, size) - mean_x * mean_y)
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    likeness /= (mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2)
    edge = WINDOW // 2
    return np.asarray(likeness[:, edge:-edge, edge:-edge].mean(axis=(1, 2, 3)))
