"""What all input-side attacks share: they leave the model alone and put a filter before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_store_tools.audit.contract import Artefact, Attack, Filter, Outcome, Pictures, Share

__all__ = ["One", "clipped", "image", "input_attack", "pixels", "seen_through", "to_each"]

One = NDArray[np.uint8]
"""One picture, shape (height, width, channels)."""


def input_attack(
    name: str,
    make: Callable[[int], Filter],
    *,
    source: str,
    promised: bool = False,
    quick: bool = False,
    answer: str = "",
    view: str = "",
) -> Attack:
    """Make an attack of a filter.

    Args:
        name: See `Attack`.
        make: Gives the filter for a seed.
        source: See `Attack`.
        promised: See `Attack`.
        quick: See `Attack`.
        answer: See `Attack`.
        view: See `Attack`.
    """

    def run(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        return Outcome(stolen.behind(make(seed)))

    return Attack(name, "input", source, run, promised=promised, quick=quick, answer=answer, view=view)


def to_each(change: Callable[[One], One]) -> Callable[[int], Filter]:
    """Make a filter of what is done to one picture; it needs no seed."""

    def all_of_them(pictures: Pictures) -> Pictures:
        return np.stack([change(picture) for picture in pictures])

    return lambda seed: all_of_them


def image(picture: One) -> Image.Image:
    """Give a picture to Pillow."""
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def pixels(made: Image.Image) -> One:
    """Take a picture back from Pillow."""
    values = np.asarray(made, np.uint8)
    return values[:, :, None] if values.ndim == 2 else values


def clipped(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round to grey levels."""
    rounded: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def seen_through(picture: One, box: tuple[float, float, float, float]) -> One:
    """Enlarge a part (left, top, right, bottom in pixels, fractions allowed) to the whole, bilinear."""
    height, width = picture.shape[:2]
    drawn = image(picture).transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return pixels(drawn)
