"""Carriers: secret low-frequency pictures, nearly orthogonal, on which a symbol's code word is modulated.

They span at most half of the low DCT frequencies' dimensions, or two keys would share most of their energy. Low frequencies
survive JPEG, blur, resizing and cropping. Color differences get half the amplitude of brightness: JPEG keeps them at
half the resolution and with coarser steps. All arithmetic is on integers.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.tables import TABLE_SCALE, cosine_table
from ptynet_plugin.symbols.stream import KeyStream

__all__ = [
    "CHANNELS",
    "CONTRAST",
    "FREQUENCIES",
    "OPPONENT",
    "Color",
    "carriers",
    "most_bits",
    "rendered",
    "trigger_picture",
]

Color = Literal["RGB", "GRAY"]

CHANNELS = {"RGB": 3, "GRAY": 1}

FREQUENCIES = {"RGB": 8, "GRAY": 12}
"""Frequencies used per axis; all channels together have channels * frequencies**2 - 1 per channel for the mean."""

UNIT = 1 << 20
"""Length of a carrier's coefficient vector."""

MID_GREY = 128
CONTRAST = {"RGB": 90, "GRAY": 110}
"""Standard deviation of a trigger in grey levels, before clipping: more is heard better and looks harsher."""

OPPONENT = {
    "RGB": ((2365, 2365, 2365), (1448, 0, -1448), (836, -1672, 836)),  # brightness; color differences at half amplitude
    "GRAY": ((4096,),),
}
"""What a carrier's inner components add to the channels, orthogonal, in 1/4096."""


def most_bits(color: Color) -> int:
    """Give the largest number of carriers: half the dimensions of the low frequencies (94 for RGB, 71 for GRAY)."""
    return CHANNELS[color] * (FREQUENCIES[color] ** 2 - 1) // 2


def carriers(secret: bytes, *, color: Color, bits: int) -> NDArray[np.int64]:
    """Make a key's carriers as DCT coefficients.

    Args:
        secret: 32 bytes, see `OwnerKey.probe_secret`.
        color: Color space, which fixes channels and frequencies.
        bits: Number n of carriers, 1 to `most_bits(color)`.

    Returns:
        Shape (bits, channels, frequencies, frequencies), vertical frequency first; the coefficient of frequency (0, 0) is 0.
        As vectors they have length `UNIT`, to one part in 10**4. Those of GRAY are orthogonal to the same precision; those
        of RGB were before their color differences were weakened, and correlate by 0.05 on average afterwards.

    Raises:
        UsageError: More carriers than half the dimensions.
    """
    if not 1 <= bits <= most_bits(color):
        raise UsageError(f"bits must be in 1..{most_bits(color)} for color {color}, got {bits}")
    channels, side = CHANNELS[color], FREQUENCIES[color]
    free = side * side - 1
    drawn = KeyStream(secret, "carriers/v1", color, bits).octets(bits * channels * free * 8)
    # the sum of eight octets is close to Gaussian: no direction of the span is preferred
    bells = drawn.reshape(bits, channels * free, 8).astype(np.int64).sum(axis=2) - 8 * 255 // 2
    inner = _orthogonal(bells).reshape(bits, channels, free)
    outer = np.array(OPPONENT[color], np.int64).T @ inner  # (bits, color channels, frequencies without (0, 0))
    made = np.zeros((bits, channels, side * side), np.int64)
    for i, vector in enumerate(outer.reshape(bits, -1)):
        made[i, :, 1:] = _of_length(vector >> 12, UNIT).reshape(channels, free)
    return made.reshape(bits, channels, side, side)


def trigger_picture(carriers: NDArray[np.int64], word: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Modulate a code word on the carriers.

    Args:
        carriers: As `carriers` gives them, shape (n, channels, frequencies, frequencies).
        word: Shape (n,), entries +1 and -1.

    Returns:
        Shape (MASTER, MASTER, channels), uint8: sum of word times carriers around mid-grey, standard deviation `CONTRAST`.
    """
    spectrum = np.tensordot(word.astype(np.int64), carriers, axes=1)
    # One carrier's picture has mean square UNIT**2 * TABLE_SCALE**4 / channels; n of them add up n times that.
    deviation = UNIT * TABLE_SCALE**2 * math.isqrt((len(carriers) << 40) // len(spectrum)) >> 20
    shrunk = spectrum >> 6  # keeps sums below 2**63
    picture = rendered(shrunk) * CONTRAST["RGB" if len(spectrum) == 3 else "GRAY"]
    scale = deviation >> 6
    return np.clip(MID_GREY + (2 * picture + scale) // (2 * scale), 0, 255).astype(np.uint8)


def rendered(spectrum: NDArray[np.int64]) -> NDArray[np.int64]:
    """Inverse DCT of one spectrum.

    Args:
        spectrum: Shape (channels, frequencies, frequencies), vertical frequency first, below 2**28 in size.

    Returns:
        Shape (MASTER, MASTER, channels), in units of 1 / TABLE_SCALE**2.
    """
    table = cosine_table(spectrum.shape[-1])
    rows = spectrum @ table  # (channels, vertical frequency, column)
    columns: NDArray[np.int64] = table.T @ rows  # (channels, row, column)
    return columns.transpose(1, 2, 0)


def _orthogonal(vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Gram-Schmidt in fixed point, each vector cleaned twice, then scaled to length UNIT."""
    made = np.zeros_like(vectors)
    for i, vector in enumerate(vectors):
        rest = _of_length(vector << 8, UNIT)
        for _ in range(2):
            shares = (made[:i] @ rest) // UNIT
            rest = _of_length(rest - (shares @ made[:i]) // UNIT, UNIT)
        made[i] = rest
    return made


def _of_length(vector: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return vector * length // math.isqrt(int(vector @ vector))
