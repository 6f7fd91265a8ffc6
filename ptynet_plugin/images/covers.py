"""Procedural covers: ordinary-looking pictures made from the key, for owners who bring none.

Noise at five scales, so that the spectrum falls like that of photographs, with textured discs in front. Integers only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.images.carriers import CHANNELS, Color
from ptynet_plugin.images.resize import resize_window
from ptynet_plugin.images.tables import MASTER
from ptynet_plugin.symbols.stream import KeyStream

__all__ = ["procedural_cover"]

SCALES = (2, 4, 8, 16, 32)
DISCS = 6
TEXTURE = 8
Reach = tuple[int, int]
WHOLE: Reach = (0, MASTER)
NOISE_GAIN = 64
"""A noise layer moves a pixel by at most this many grey levels."""


def procedural_cover(secret: bytes, symbol: int, cover: int, *, color: Color) -> NDArray[np.uint8]:
    """Make cover number `cover` of a symbol.

    Returns:
        Shape (MASTER, MASTER, channels), uint8.
    """
    stream, channels = KeyStream(secret, "covers/v1", color, symbol, cover), CHANNELS[color]
    picture = _background(stream, channels)
    for _ in range(DISCS):
        _put_disc(picture, stream, channels)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _background(stream: KeyStream, channels: int) -> NDArray[np.int32]:
    base, gains = stream.octets(channels), stream.octets(len(SCALES))
    picture = np.broadcast_to(base, (MASTER, MASTER, channels)).astype(np.int32)
    for scale, gain in zip(SCALES, gains.tolist(), strict=True):
        picture += _layer(stream, scale, channels, gain * NOISE_GAIN)
    return picture


def _put_disc(picture: NDArray[np.int32], stream: KeyStream, channels: int) -> None:
    """Draw one disc in place: its colour, its texture, its centre anywhere, its radius up to 0.4 of the side."""
    y, x, size, gain, *colour = stream.octets(4 + channels).tolist()
    radius, axis = size * 2 // 5, np.arange(MASTER, dtype=np.int32) * 4 + 2
    down, across = _reach(y, radius), _reach(x, radius)
    rows, columns = slice(*down), slice(*across)
    inside = (axis[rows, None] - y) ** 2 + (axis[None, columns] - x) ** 2 < radius**2
    surface = _layer(stream, TEXTURE, channels, gain * NOISE_GAIN, down=down, across=across) + np.array(
        colour, np.int32
    )
    picture[rows, columns][inside] = surface[inside]


def _reach(centre: int, radius: int) -> Reach:
    """Give the first pixel a disc may touch along an axis and the one after the last; both in 0..MASTER."""
    return max(0, (centre - radius) // 4), min(MASTER, (centre + radius) // 4 + 1)


def _layer(
    stream: KeyStream, scale: int, channels: int, gain: int, *, down: Reach = WHOLE, across: Reach = WHOLE
) -> NDArray[np.int32]:
    """Smooth noise of `scale` x `scale` cells around 0, at most gain / 256 grey levels either way; a window of it."""
    cells = stream.octets(scale * scale * channels).reshape(scale, scale, channels)
    return (resize_window(cells, (MASTER, MASTER), down, across).astype(np.int32) - 128) * gain >> 15
