"""A probe as a picture file, for endpoints that read files.

PNG keeps every pixel. JPEG is written at quality 95 without chroma subsampling: the trigger survives far worse, and an owner
who asks for JPEG has an endpoint that reads nothing else.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ptynet_plugin.errors import UsageError
from ptynet_plugin.verification.endpoint import Picture

__all__ = ["MEDIA_TYPES", "adapt_channels", "compress"]

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}
JPEG_QUALITY = 95
GRAY, RGB = 1, 3


def compress(picture: Picture, form: str) -> bytes:
    """Write a picture as a file.

    Args:
        picture: The picture, RGB or grey.
        form: "png" or "jpeg".

    Returns:
        The file's bytes; the same for the same picture and the same Pillow.
    """
    plane = picture[:, :, 0] if picture.shape[2] == GRAY else picture
    image = Image.fromarray(np.ascontiguousarray(plane))
    stream = io.BytesIO()
    if form == "jpeg":
        image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(stream, "PNG")
    return stream.getvalue()


def adapt_channels(picture: Picture, channels: int) -> Picture:
    """Give a picture the number of channels an endpoint reads.

    Raises:
        UsageError: A color picture for an endpoint that reads grey ones: the trigger lives in the colors.
    """
    found = picture.shape[2]
    if found == channels:
        return picture
    if found == GRAY and channels == RGB:
        return np.repeat(picture, RGB, axis=2)
    raise UsageError(
        f"the mark's probes have {found} channels, the endpoint reads {channels}: it needs a mark trained with --color GRAY"
    )
