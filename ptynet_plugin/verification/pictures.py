"""A probe as a picture file, for endpoints that read files.

PNG keeps every pixel. JPEG is written at quality 95 without chroma subsampling: the trigger survives far worse, and an owner
who asks for JPEG has an endpoint that reads nothing else.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from ptynet_plugin.errors import UsageError
from ptynet_plugin.verification.endpoint import Picture

__all__ = ["MEDIA_TYPES", "adapt_channels", "compress"]

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}
JPEG_QUALITY = 95
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_EFFORT = 6
GRAY, RGB = 1, 3


def compress(picture: Picture, form: str) -> bytes:
    """Write a picture as a file.

    Args:
        picture: The picture, RGB or grey.
        form: "png" or "jpeg".

    Returns:
        The file's bytes; a PNG's are the same for the same picture and the same zlib.
    """
    if form == "png":
        return _png(picture)
    plane = picture[:, :, 0] if picture.shape[2] == GRAY else picture
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
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


def _png(picture: Picture) -> bytes:
    """Write a PNG whose rows have no filter, so that who checks evidence needs nothing but zlib to read it."""
    height, width, channels = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == GRAY else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), PNG_EFFORT)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
