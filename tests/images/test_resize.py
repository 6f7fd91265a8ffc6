"""Exact resizing against fractions computed one pixel at a time."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptynet_plugin.images.resize import resize, resize_window

SIZES = st.integers(1, 17)


def _axis(before: int, after: int) -> list[dict[int, Fraction]]:
    """Weights of each output pixel along one axis, from the definition."""
    rows = []
    for i in range(after):
        weights: dict[int, Fraction] = {}
        if after > before:
            centre = Fraction(2 * i + 1, 2) * Fraction(before, after) - Fraction(1, 2)
            left = floor(centre)
            for source, weight in ((left, 1 - (centre - left)), (left + 1, centre - left)):
                clipped = min(max(source, 0), before - 1)
                weights[clipped] = weights.get(clipped, Fraction(0)) + weight
        else:
            start, end = Fraction(i * before, after), Fraction((i + 1) * before, after)
            for source in range(before):
                overlap = min(end, Fraction(source + 1)) - max(start, Fraction(source))
                if overlap > 0:
                    weights[source] = overlap / (end - start)
        rows.append(weights)
    return rows


def _exact(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    made = np.zeros((*size, picture.shape[2]), np.uint8)
    columns = _axis(picture.shape[1], size[1])
    for y, row in enumerate(_axis(picture.shape[0], size[0])):
        for x, column in enumerate(columns):
            for c in range(picture.shape[2]):
                total = sum(
                    (wy * wx * int(picture[sy, sx, c]) for sy, wy in row.items() for sx, wx in column.items()),
                    Fraction(0),
                )
                made[y, x, c] = floor(total + Fraction(1, 2))
    return made


@settings(max_examples=60, deadline=None)
@given(height=SIZES, width=SIZES, to_height=SIZES, to_width=SIZES, seed=st.integers(0, 1000))
def test_equals_the_definition(height: int, width: int, to_height: int, to_width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 2), dtype=np.uint8)
    assert np.array_equal(resize(picture, (to_height, to_width)), _exact(picture, (to_height, to_width)))


@pytest.mark.parametrize("size", [(64, 64), (28, 28), (224, 224), (512, 512), (300, 97), (1, 1)])
def test_flat_stays_flat(size: tuple[int, int]) -> None:
    for value in (0, 1, 254, 255):
        assert (resize(np.full((64, 64, 3), value, np.uint8), size) == value).all()


def test_large_pictures_do_not_overflow() -> None:
    white = np.full((3000, 2000, 1), 255, np.uint8)
    assert (resize(white, (7, 2500)) == 255).all()


def test_its_result_is_a_copy() -> None:
    picture = np.zeros((8, 8, 1), np.uint8)
    resize(picture, (8, 8))[:] = 1
    assert not picture.any()


@pytest.mark.parametrize("size", [(128, 128), (9, 31), (4, 4), (8, 8)])
def test_a_window_is_that_part_of_the_whole(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (8, 8, 3), np.uint8)
    whole = resize(picture, size)
    for down, across in (
        ((0, size[0]), (0, size[1])),
        ((1, 3), (0, 2)),
        ((size[0] - 1, size[0]), (2, 3)),
        ((2, 2), (0, 1)),
    ):
        part = resize_window(picture, size, down, across)
        assert np.array_equal(part, whole[down[0] : down[1], across[0] : across[1]])
