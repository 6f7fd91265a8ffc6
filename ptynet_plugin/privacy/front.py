"""The part of PTYNet that runs where the pictures are: a public, fixed, linear front.

Each 8x8 patch (every 4 pixels, as PTYNet's first convolution reads them) is reduced to its low DCT frequencies. Being linear,
it lets two parties add what neither shows the other: front((1 - a) cover + a trigger) = (1 - a) front(cover) + a front(trigger).
Being public and fixed, it cannot be steered by a hostile trainer into telling more, the attack of Pasquini et al. (FSHA, CCS
2021), and it carries nothing of the owner's key. High frequencies, where detail lives and triggers do not, never leave.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.images.carriers import CHANNELS, Color
from ptynet_plugin.network.weights import GRID

__all__ = ["KERNEL", "PLACES", "STRIDE", "activations", "filter_count", "front_filters"]

KERNEL, STRIDE = 8, 4
PLACES = (GRID - KERNEL) // STRIDE + 1
"""Patches per side: 7."""

LOW = {"RGB": 3, "GRAY": 4}
"""Frequencies kept per axis and channel: those a trigger reaches, 8 or 12 half-waves over four patches."""

Floats = NDArray[np.float32]


def filter_count(color: Color) -> int:
    """Give the number of activations per patch: 27 of 192 pixel values for RGB, 16 of 64 for GRAY."""
    return CHANNELS[color] * LOW[color] ** 2


@functools.cache
def front_filters(color: Color) -> Floats:
    """Give the filters, shape (filter_count, channels, KERNEL, KERNEL), orthonormal, read-only."""
    low, channels = LOW[color], CHANNELS[color]
    angles = math.pi * np.arange(low)[:, None] * (np.arange(KERNEL) + 0.5) / KERNEL
    waves = np.cos(angles) * np.where(np.arange(low) > 0, math.sqrt(2), 1)[:, None] / math.sqrt(KERNEL)
    patterns = np.einsum("uy,vx->uvyx", waves, waves).reshape(low * low, KERNEL, KERNEL)
    filters = np.zeros((channels, low * low, channels, KERNEL, KERNEL), np.float32)
    for channel in range(channels):
        filters[channel, :, channel] = patterns
    made = filters.reshape(-1, channels, KERNEL, KERNEL)
    made.flags.writeable = False
    return made


def activations(pictures: NDArray[np.uint8], *, color: Color) -> Floats:
    """Run the front on pictures around mid-grey.

    Args:
        pictures: Shape (n, GRID, GRID, channels), uint8.
        color: "RGB" or "GRAY".

    Returns:
        Shape (n, filter_count, PLACES, PLACES), the filters' products with pixels / 255 - 1/2; within -4..4.

    Raises:
        ValueError: Pictures of another shape or type.
    """
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (GRID, GRID, CHANNELS[color]):
        raise ValueError(f"pictures must be uint8 (n, {GRID}, {GRID}, {CHANNELS[color]}), got {pictures.shape}")
    pixels = pictures.astype(np.float32).transpose(0, 3, 1, 2) / 255 - 0.5
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (KERNEL, KERNEL), axis=(2, 3))
    patches = windows[:, :, ::STRIDE, ::STRIDE]
    return np.ascontiguousarray(
        np.einsum("ncijyx,kcyx->nkij", patches, front_filters(color), optimize=True), np.float32
    )
