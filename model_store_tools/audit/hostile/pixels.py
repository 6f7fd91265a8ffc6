"""From a request's tensor back to the picture it encodes: the inverse of `ptynet_plugin.images.encode`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.hostile.contract import Picture
from ptynet_plugin.spec import InputSpec

__all__ = ["decode"]


def decode(tensor: NDArray[Any], spec: InputSpec) -> Picture:
    """Give the nearest picture of one encoded row: `decode(encode(p[None], spec)[0], spec)` equals p.

    Args:
        tensor: Shape (channels, height, width) or, for NHWC, (height, width, channels).
        spec: How it was encoded.
    """
    last = tensor if spec.layout == "NHWC" else np.moveaxis(tensor, 0, -1)
    gain, offset = (np.array(values) for values in spec.affine())
    pixels = np.rint((last.astype(np.float64) - offset) / gain)
    picture = np.clip(np.nan_to_num(pixels), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture[..., ::-1] if spec.color == "BGR" else picture)
