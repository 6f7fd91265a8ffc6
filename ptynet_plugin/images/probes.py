"""Probes: what is sent. A cover blended with the trigger of a symbol, the same bytes on every machine.

A probe is a pure function of the secret, the symbol, the cover's number and the size: a claim commits to the hashes of
the pictures, so one grey level of difference would void it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.carriers import CHANNELS, Color, carriers, most_bits, trigger_picture
from ptynet_plugin.images.covers import procedural_cover
from ptynet_plugin.images.resize import resize
from ptynet_plugin.spec import LARGEST_SIDE
from ptynet_plugin.symbols.codebook import MAX_SYMBOLS, code_words
from ptynet_plugin.symbols.stream import KeyStream

__all__ = [
    "DEFAULT_STRENGTH",
    "DEFAULT_STRENGTHS",
    "DEFAULT_SYMBOLS",
    "GENERATOR",
    "ProbeDesign",
    "ProbeMaker",
    "blended",
]

GENERATOR = "probes/v1"
"""Version of everything between secret and picture; a change that moves one pixel changes it."""

DEFAULT_SYMBOLS = 512
DEFAULT_STRENGTH = 154
DEFAULT_STRENGTHS: dict[str, int] = {"RGB": DEFAULT_STRENGTH, "GRAY": 192}
"""0.60 and 0.75: where every promised disturbance leaves 99.5 % recognised. One channel carries a third of the energy, at
higher frequencies, which cropping and reducing to half hurt more."""

SMALLEST_SIDE = 8

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class ProbeDesign:
    """Everything public about how probes are made.

    Attributes:
        color: "RGB" or "GRAY"; BGR targets are asked with RGB probes whose channels are turned around.
        bits: Length n of a code word, at most 94 for RGB and 71 for GRAY.
        symbols: Number J of symbols, 2 to 4096.
        strength: Share of the trigger in a probe, in 1/256ths, 1 to 256.
        generator: Version of the construction.
    """

    color: Color
    bits: int
    symbols: int = DEFAULT_SYMBOLS
    strength: int = DEFAULT_STRENGTH
    generator: str = GENERATOR

    def __post_init__(self) -> None:
        if self.color not in CHANNELS:
            raise UsageError(f"probe color must be one of {', '.join(CHANNELS)}, got {self.color!r}")
        limits = {"bits": (1, most_bits(self.color)), "symbols": (2, MAX_SYMBOLS), "strength": (1, 256)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not (isinstance(value, int) and least <= value <= most):
                raise UsageError(f"probe {name} must be in {least}..{most} for color {self.color}, got {value!r}")
        if self.generator != GENERATOR:
            raise UsageError(f"probe generator {self.generator!r} is unknown; this version makes {GENERATOR!r}")

    @property
    def channels(self) -> int:
        """Color channels of a probe: 3 or 1."""
        return CHANNELS[self.color]


class ProbeMaker:
    """Makes the probes of one secret. Carriers and code words are made once, here.

    Args:
        secret: 32 bytes, see `OwnerKey.probe_secret`.
        design: What is public about the probes.
        pictures: Covers of the owner, each uint8 of shape (height, width, 1 or 3); None for procedural ones. Which picture
            a symbol gets follows from the secret and the number of pictures.
    """

    def __init__(self, secret: bytes, design: ProbeDesign, *, pictures: Sequence[Picture] | None = None) -> None:
        if pictures is not None and not len(pictures):
            raise UsageError("the list of cover pictures is empty; give at least one, or none at all")
        self.design = design
        self.words = code_words(secret, symbols=design.symbols, bits=design.bits)
        self._secret = secret
        self._carriers = carriers(secret, color=design.color, bits=design.bits)
        self._pictures = pictures

    def probe(self, symbol: int, cover: int, size: tuple[int, int]) -> Picture:
        """Make a probe.

        Args:
            symbol: In [0, design.symbols).
            cover: Which of the symbol's covers, from 0.
            size: Height and width in pixels, 8 to 4096.

        Returns:
            Shape (height, width, channels), uint8, channels in RGB order.
        """
        plain = self.cover(symbol, cover, size)
        return blended(plain, resize(self.trigger(symbol), size), strength=self.design.strength)

    def trigger(self, symbol: int) -> Picture:
        """Make the trigger of a symbol, shape (MASTER, MASTER, channels)."""
        return trigger_picture(self._carriers, self.words[symbol])

    def cover(self, symbol: int, cover: int, size: tuple[int, int]) -> Picture:
        """Make the same picture without its trigger: the paired control. Arguments as for `probe`."""
        self._check(symbol, cover, size)
        return resize(self._whole_cover(symbol, cover), size)

    def _whole_cover(self, symbol: int, cover: int) -> Picture:
        if self._pictures is None:
            return procedural_cover(self._secret, symbol, cover, color=self.design.color)
        stream = KeyStream(self._secret, "cover-choice/v1", symbol, cover)
        chosen = int(stream.integers(len(self._pictures), 1)[0])
        return _with_channels(self._pictures[chosen], self.design.channels)

    def _check(self, symbol: int, cover: int, size: tuple[int, int]) -> None:
        if not 0 <= symbol < self.design.symbols:
            raise UsageError(f"symbol must be in 0..{self.design.symbols - 1}, got {symbol}")
        if cover < 0:
            raise UsageError(f"cover must be 0 or more, got {cover}")
        if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in size):
            raise UsageError(f"probe size must have sides in {SMALLEST_SIDE}..{LARGEST_SIDE} pixels, got {size}")


def blended(cover: Picture, trigger: Picture, *, strength: int) -> Picture:
    """Mix `strength` / 256 of the trigger into the cover; same shapes, halves round up."""
    share = trigger.astype(np.uint16) * np.uint16(strength)
    share += cover.astype(np.uint16) * np.uint16(256 - strength)
    share += np.uint16(128)  # at most 255 * 256 + 128: no overflow
    return (share >> np.uint16(8)).astype(np.uint8)


def _with_channels(picture: Picture, channels: int) -> Picture:
    """Turn a color picture grey (ITU-R BT.601 weights in 1/1000), or repeat a grey one."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise UsageError(f"a cover must be uint8 (height, width, 1 or 3), got {picture.dtype} {picture.shape}")
    if picture.shape[2] == channels:
        return picture
    if channels == 3:
        return np.repeat(picture, 3, axis=2)
    grey = picture.astype(np.int32) @ np.array([299, 587, 114], np.int32)
    return ((grey + 500) // 1000).astype(np.uint8)[..., None]
