"""What happens to a picture between the owner and the model, as the promises name it: one function each."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["DISTURBANCES", "Disturbance"]

Picture = NDArray[np.uint8]
Disturbance = Callable[[Picture, np.random.Generator], Picture]


def _image(picture: Picture) -> Image.Image:
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def _pixels(image: Image.Image) -> Picture:
    pixels = np.asarray(image, np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _clipped(values: NDArray[np.floating]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _jpeg(picture: Picture, _: np.random.Generator) -> Picture:
    octets = io.BytesIO()
    _image(picture).save(octets, "JPEG", quality=30)
    return _pixels(Image.open(octets))


def _blur(picture: Picture, _: np.random.Generator) -> Picture:
    return _pixels(_image(picture).filter(ImageFilter.BoxBlur(1)))


def _noise(picture: Picture, rng: np.random.Generator) -> Picture:
    return _clipped(picture + rng.normal(0, 0.08 * 255, picture.shape))


def _crop(picture: Picture, _: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    top, left = round(height / 16), round(width / 16)
    cut = _image(picture).crop((left, top, width - left, height - top))
    return _pixels(cut.resize((width, height), Image.Resampling.BILINEAR))


def _half(picture: Picture, _: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    small = _image(picture).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    return _pixels(small.resize((width, height), Image.Resampling.BILINEAR))


def _gain(factor: float) -> Disturbance:
    return lambda picture, _: _clipped(picture * factor)


def _contrast(factor: float) -> Disturbance:
    def changed(picture: Picture, _: np.random.Generator) -> Picture:
        mean = picture.mean()
        return _clipped((picture - mean) * factor + mean)

    return changed


DISTURBANCES: dict[str, Disturbance] = {
    "none": lambda picture, _: picture,
    "JPEG 30": _jpeg,
    "3x3 blur": _blur,
    "noise 0.08": _noise,
    "crop 0.875": _crop,
    "half and back": _half,
    "brightness +25 %": _gain(1.25),
    "brightness -25 %": _gain(0.75),
    "contrast +25 %": _contrast(1.25),
    "contrast -25 %": _contrast(0.75),
}
