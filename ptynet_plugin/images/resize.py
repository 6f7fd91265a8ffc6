"""Resizing pictures exactly: bilinear when enlarging, area mean when reducing, in integers.

Every output pixel is a weighted mean with integer weights of a known sum, rounded once at the end. Image libraries
disagree about such means by a grey level or two, which would change the hash of a probe.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["resize", "resize_window"]


def resize(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a picture to a size.

    Args:
        picture: Shape (height, width, channels), uint8.
        size: Wanted height and width, at least 1.

    Returns:
        Shape (*size, channels). Enlarged axes are interpolated between pixel centres, reduced axes averaged over
        the area an output pixel covers; halves round up.
    """
    return resize_window(picture, size, (0, size[0]), (0, size[1]))


def resize_window(
    picture: NDArray[np.uint8], size: tuple[int, int], down: tuple[int, int], across: tuple[int, int]
) -> NDArray[np.uint8]:
    """Give `resize(picture, size)[down[0]:down[1], across[0]:across[1]]` without computing the rest.

    Args:
        picture: As for `resize`.
        size: The whole resized picture's.
        down: First row of the window and the row after its last.
        across: Likewise its columns.
    """
    if picture.shape[:2] == size:
        return picture[down[0] : down[1], across[0] : across[1]].copy()
    rows, columns = _taps(picture.shape[0], size[0]).part(*down), _taps(picture.shape[1], size[1]).part(*across)
    total = rows.total * columns.total
    wide = np.int32 if 256 * total < 2**31 else np.int64
    # Columns first: where a picture grows, only the small one and a half-grown one are turned, never the large one.
    broad = _weighted(picture.transpose(1, 0, 2).astype(wide, order="C"), columns)
    summed = _weighted(np.ascontiguousarray(broad.transpose(1, 0, 2)), rows)
    summed += wide(total // 2)
    if total & (total - 1) == 0:
        summed >>= wide(total.bit_length() - 1)  # sums are not negative: the same as a division, in a tenth of the time
    else:
        summed //= wide(total)
    return summed.astype(np.uint8)


@dataclass(frozen=True)
class _Taps:
    """How one axis is resized: `sources` and `weights` of shape (taps, out); the weights of an output add up to `total`."""

    sources: NDArray[np.intp]
    weights: NDArray[np.int64]
    total: int

    def part(self, first: int, end: int) -> _Taps:
        """Give the taps of the outputs `first` to `end` - 1."""
        return _Taps(self.sources[:, first:end], self.weights[:, first:end], self.total)


def _weighted(values: NDArray[Any], taps: _Taps) -> NDArray[Any]:
    """Take the weighted sums along the first axis."""
    weights = taps.weights.astype(values.dtype)[:, :, None, None]
    summed: NDArray[Any] = values.take(taps.sources[0], axis=0)
    summed *= weights[0]
    part = np.empty_like(summed)
    for source, weight in zip(taps.sources[1:], weights[1:], strict=True):
        values.take(source, axis=0, out=part, mode="clip")  # sources lie inside; "raise" would copy once more
        part *= weight
        summed += part
    return summed


@functools.lru_cache(maxsize=256)
def _taps(before: int, after: int) -> _Taps:
    return _interpolating(before, after) if after > before else _averaging(before, after)


def _interpolating(before: int, after: int) -> _Taps:
    """Two neighbours per output pixel; pixel centres are at half-integers, the edge pixels are repeated outwards."""
    position = (2 * np.arange(after, dtype=np.int64) + 1) * before - after  # in units of 1 / (2 * after) pixels
    left, part = np.divmod(position, 2 * after)
    sources = np.clip(np.stack([left, left + 1]), 0, before - 1).astype(np.intp)
    return _Taps(sources, np.stack([2 * after - part, part]), 2 * after)


def _averaging(before: int, after: int) -> _Taps:
    """Input pixel p covers [p * after, (p + 1) * after), output pixel i covers [i * before, (i + 1) * before)."""
    start = np.arange(after, dtype=np.int64) * before
    first = start // after
    sources = first[None, :] + np.arange(-(-before // after) + 1, dtype=np.int64)[:, None]
    begin, end = np.maximum(sources * after, start), np.minimum((sources + 1) * after, start + before)
    weights = np.maximum(end - begin, 0)
    used = weights.any(axis=1)
    return _Taps(np.minimum(sources, before - 1)[used].astype(np.intp), weights[used], before)
