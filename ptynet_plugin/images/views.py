"""How pictures must be sent to a suspect that mirrors, turns or crops what it is sent, so that its model sees them upright.

A view is named by what the suspect does, in the order in which it does it:

    plain                     nothing
    mirrored                  exchanges left and right
    turned:10                 turns by whole degrees about the centre, counter-clockwise
    cropped:0,0,90,90         enlarges a part to the whole: left, top, right, bottom in per cent
    mirrored+turned:10        both

`View.undo` does the opposite. What the suspect cuts away or brings in from outside cannot be undone: there the nearest pixel is
repeated. Places are exact to 1/256 pixel and colors are integers, so that mirroring alone moves no grey level.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError

__all__ = ["PLAIN", "View"]

PLAIN = "plain"
FRACTION = 256
"""Parts of a pixel."""

LEAST_SIDE = 10
"""Per cent of a side that a crop leaves, at least."""

MOST_STEPS = 4
EXPECTED = "mirrored, turned:DEGREES, cropped:LEFT,TOP,RIGHT,BOTTOM in per cent, or several of them joined by +"

Affine = NDArray[np.float64]
"""Shape (3, 3): takes (x, y, 1) in what comes out to the place in what went in; pictures span [0, width] x [0, height]."""


@dataclass(frozen=True)
class View:
    """What a suspect does to pictures before its model.

    Attributes:
        steps: In order; each a word and its whole numbers.
    """

    steps: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def named(cls, text: str) -> Self:
        """Read a view's name.

        Raises:
            UsageError: It names none.
        """
        if text == PLAIN:
            return cls()
        parts = text.split("+")
        if len(parts) > MOST_STEPS:
            raise UsageError(f"--view {text}: has {len(parts)} steps, expected {MOST_STEPS} at most")
        return cls(tuple(_step(text, part) for part in parts))

    @property
    def name(self) -> str:
        """Its one way of being written: `View.named(view.name) == view`."""
        said = [word + (":" + ",".join(map(str, numbers)) if numbers else "") for word, numbers in self.steps]
        return "+".join(said) or PLAIN

    def undo(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give what must be sent so that the suspect's model sees `picture`.

        Args:
            picture: Shape (height, width, channels), uint8, of the size the suspect reads.

        Returns:
            The same shape. Plain: `picture` itself.
        """
        if not self.steps:
            return picture
        across, down = _places(self, picture.shape[0], picture.shape[1])
        return _sampled(picture, across, down)


def _step(text: str, part: str) -> tuple[str, tuple[int, ...]]:
    word, colon, given = part.partition(":")
    known = _STEPS.get(word)
    try:
        numbers = tuple(int(number) for number in given.split(",")) if colon else ()
    except ValueError:
        known, numbers = None, ()
    if known is None or len(numbers) != known.numbers:
        raise UsageError(f"--view {text}: {part!r} is nothing that can be undone; expected {EXPECTED}")
    if not known.allowed(*numbers):
        raise UsageError(f"--view {text}: {part!r} is out of range; expected {known.range}")
    return word, numbers


@functools.lru_cache(maxsize=8)
def _places(view: View, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each pixel that is sent, the place in the picture, in 1/256 pixel from the first pixel's centre: (columns, rows)."""
    done = functools.reduce(
        np.matmul, [_STEPS[word].matrix(height, width, numbers) for word, numbers in view.steps], np.eye(3)
    )
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    found = np.linalg.inv(done) @ np.stack([across.ravel(), down.ravel(), np.ones(across.size)])
    placed = np.rint((found[:2] - 0.5) * FRACTION).astype(np.int64).reshape(2, height, width)
    return placed[0].clip(0, (width - 1) * FRACTION), placed[1].clip(0, (height - 1) * FRACTION)


def _sampled(picture: NDArray[np.uint8], across: NDArray[np.int64], down: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Interpolate between four pixels each; halves round up."""
    column, row = across // FRACTION, down // FRACTION
    right, low = (across % FRACTION)[..., None], (down % FRACTION)[..., None]
    next_column, next_row = np.minimum(column + 1, picture.shape[1] - 1), np.minimum(row + 1, picture.shape[0] - 1)
    wide = picture.astype(np.int64)
    upper = wide[row, column] * (FRACTION - right) + wide[row, next_column] * right
    lower = wide[next_row, column] * (FRACTION - right) + wide[next_row, next_column] * right
    total = FRACTION * FRACTION
    made: NDArray[np.uint8] = ((upper * (FRACTION - low) + lower * low + total // 2) // total).astype(np.uint8)
    return made


def _mirrored(height: int, width: int, numbers: tuple[int, ...]) -> Affine:
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _turned(height: int, width: int, numbers: tuple[int, ...]) -> Affine:
    angle = math.radians(numbers[0])
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = width / 2, height / 2
    return np.array(
        [[cosine, -sine, x - cosine * x + sine * y], [sine, cosine, y - sine * x - cosine * y], [0.0, 0.0, 1.0]]
    )


def _cropped(height: int, width: int, numbers: tuple[int, ...]) -> Affine:
    left, top, right, bottom = numbers
    return np.array(
        [
            [(right - left) / 100, 0.0, left * width / 100],
            [0.0, (bottom - top) / 100, top * height / 100],
            [0.0, 0.0, 1.0],
        ]
    )


@dataclass(frozen=True)
class _Kind:
    """One word: how many numbers follow it, what it does to a picture of a height and width, and which numbers it takes."""

    numbers: int
    matrix: Callable[[int, int, tuple[int, ...]], Affine]
    allowed: Callable[..., bool]
    range: str


_STEPS = {
    "mirrored": _Kind(0, _mirrored, lambda: True, ""),
    "turned": _Kind(1, _turned, lambda degrees: 0 < abs(degrees) <= 180, "-180 to 180 degrees, not 0"),
    "cropped": _Kind(
        4,
        _cropped,
        lambda left, top, right, bottom: (
            0 <= left <= right - LEAST_SIDE and right <= 100 and 0 <= top <= bottom - LEAST_SIDE and bottom <= 100
        ),
        f"a part inside 0 to 100 that is at least {LEAST_SIDE} wide and high",
    ),
}
