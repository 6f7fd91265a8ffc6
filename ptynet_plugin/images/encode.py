"""From pictures to the tensor a model reads, as its input spec says.

Each of the 256 pixel values has one image per channel, computed once in float64 and rounded once to the model's dtype:
the encoding is a table look-up, so that the same picture gives the same tensor, byte for byte, on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import SpecError, UsageError
from ptynet_plugin.spec import InputSpec

__all__ = ["encode", "pixel_table"]

DEFAULT_DTYPE = "float32"


def encode(pictures: NDArray[np.uint8], spec: InputSpec) -> NDArray[Any]:
    """Turn pictures into the model's input tensor.

    Args:
        pictures: Shape (pictures, height, width, channels), uint8, channels in RGB order or one grey channel.
        spec: What the model reads. A missing layout is taken as NCHW, a missing dtype as float32, a missing size or a
            side of 0 as dynamic.

    Returns:
        Shape (pictures, channels, height, width) for NCHW, (pictures, height, width, channels) for NHWC, in the spec's
        color order and dtype: `(pixel / 255 - mean) / std`, or `pixel * scale`, rounded once.

    Raises:
        UsageError: The pictures are no uint8 pictures, or their channels or size are not the spec's.
        SpecError: The spec's values do not fit the integers of its dtype.
    """
    _check(pictures, spec)
    table = pixel_table(spec)
    ordered = pictures[..., ::-1] if spec.color == "BGR" else pictures
    batch, height, width, channels = ordered.shape
    if spec.layout == "NHWC":
        tensor = np.empty((batch, height, width, channels), table.dtype)
        views = [tensor[..., channel] for channel in range(channels)]
    else:
        tensor = np.empty((batch, channels, height, width), table.dtype)
        views = [tensor[:, channel] for channel in range(channels)]
    for channel, view in enumerate(views):
        view[...] = table[channel][ordered[..., channel]]
    return tensor


def pixel_table(spec: InputSpec) -> NDArray[Any]:
    """Give what each pixel value becomes: shape (channels, 256) in the spec's color order and dtype.

    Raises:
        SpecError: The dtype is an integer type and some pixel value falls outside it.
    """
    gain, offset = (np.array(values, np.float64)[:, None] for values in spec.affine())
    values = np.arange(256, dtype=np.float64)[None, :] * gain + offset
    dtype = np.dtype(spec.dtype or DEFAULT_DTYPE)
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    rounded, limits = np.rint(values), np.iinfo(dtype)
    if rounded.min() < limits.min or rounded.max() > limits.max:
        raise SpecError(
            f"pixels 0..255 become {rounded.min():g}..{rounded.max():g}, dtype {dtype} holds {limits.min}..{limits.max}; "
            "correct scale, mean, std or dtype in the spec"
        )
    return rounded.astype(dtype)


def _check(pictures: NDArray[np.uint8], spec: InputSpec) -> None:
    if pictures.ndim != 4 or pictures.dtype != np.uint8:
        raise UsageError(
            f"pictures are {pictures.dtype} of shape {pictures.shape}, expected uint8 (n, height, width, channels)"
        )
    if pictures.shape[3] != spec.channels:
        raise UsageError(
            f"pictures have {pictures.shape[3]} channels, the spec's color {spec.color} has {spec.channels}"
        )
    for side, found, wanted in zip(("height", "width"), pictures.shape[1:3], spec.size or (0, 0), strict=True):
        if wanted not in (0, found):
            raise UsageError(f"pictures have {side} {found}, the spec's size says {wanted}; resize them first")
