"""Reading a folder of the owner's pictures as covers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptynet_plugin.errors import UsageError

__all__ = ["SUFFIXES", "read_pictures"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_pictures(folder: Path, *, color: Literal["RGB", "GRAY"], flag: str = "--covers") -> list[NDArray[np.uint8]]:
    """Read every picture of a folder and its subfolders, in the order of their paths.

    Args:
        folder: PNG, JPEG, BMP or WebP files; others are passed over.
        color: Pictures of another mode are converted.
        flag: What the user gave the folder to, for messages.

    Returns:
        Each uint8, shape (height, width, 3), or (height, width, 1) for GRAY.

    Raises:
        UsageError: No folder, no picture in it, or a file that is no picture; the message names it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; {flag} takes a folder of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UsageError(f"{folder}: holds no picture ({', '.join(SUFFIXES)}); give another folder to {flag}")
    return [_read(path, "L" if color == "GRAY" else "RGB") for path in files]


def _read(path: Path, mode: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode), np.uint8)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: how Pillow reports broken PNG
        raise UsageError(f"{path}: is no readable picture ({error}); remove it from the folder") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
