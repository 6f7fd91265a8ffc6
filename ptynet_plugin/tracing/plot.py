"""Every copy's evidence against its threshold, as an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.verification.curve import superscript

__all__ = ["evidence_of_copies"]

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 60, 36, 18, 44
MOST_DOTS = 3000
TICKS = 6
_LN10 = math.log(10.0)


def evidence_of_copies(
    log_evidence: NDArray[np.float64], log_threshold: NDArray[np.float64], accused: Sequence[int]
) -> str:
    """Draw log10 E of every copy over its number, and the threshold that grows with the number.

    Of many copies the range that each pixel's copies span is drawn; those above their threshold are dots of their own. What lies
    far below zero is drawn on the lower edge.

    Args:
        log_evidence: Natural logarithms, shape (copies,), at least one.
        log_threshold: Likewise.
        accused: Numbers of the copies that are named.

    Returns:
        An `<svg>` element; it holds numbers and fixed words only.
    """
    values, limits, copies = log_evidence / _LN10, log_threshold / _LN10, len(log_evidence)
    high = max(float(limits.max()), float(values.max())) * 1.08
    low = max(min(0.0, float(values.min())), -0.8 * high) * 1.04
    shown = values.clip(low, high)

    def x(copy: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (copy - 0.5) / copies

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    named = sorted({*accused, *(int(place) + 1 for place in np.flatnonzero(values >= limits))})
    dots = "".join(f'<circle cx="{x(copy):.1f}" cy="{y(shown[copy - 1]):.1f}" r="4.5"/>' for copy in named)
    names = "".join(
        f'<text x="{x(copy):.1f}" y="{y(shown[copy - 1]) + 4:.1f}" dx="{_side(copy, copies)}" '
        f'text-anchor="{"end" if copy > copies / 2 else "start"}">copy {copy}</text>'
        for copy in named[:8]
    )
    steps = np.unique(np.geomspace(1, copies, 60).round().astype(int))
    threshold = " ".join(f"{x(copy):.1f},{y(limits[copy - 1]):.1f}" for copy in (*steps, copies))
    middle = (LEFT + WIDTH - RIGHT) / 2
    return "".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Evidence against every copy" class="copies">',
            *(_horizontal(y(tick), tick) for tick in _ticks(low, high)),
            *(_below(x(copy), copy) for copy in _round_copies(copies)),
            f'<g class="innocent">{"".join(_marks(shown, set(named), x, y))}</g>',
            f'<polyline class="threshold" points="{threshold}"/>',
            f'<text class="threshold" x="{LEFT + 6}" y="{y(limits[-1]) - 7:.1f}">named from here</text>',
            f'<g class="named">{dots}{names}</g>',
            f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">number of the copy</text>',
            "</svg>",
        ]
    )


def _side(copy: int, copies: int) -> int:
    return -9 if copy > copies / 2 else 9


def _marks(
    shown: NDArray[np.float64], named: Collection[int], x: Callable[[float], float], y: Callable[[float], float]
) -> Iterator[str]:
    if len(shown) <= MOST_DOTS:
        radius = 2.4 if len(shown) <= 400 else 1.4
        for copy, value in enumerate(shown, start=1):
            if copy not in named:
                yield f'<circle cx="{x(copy):.1f}" cy="{y(value):.1f}" r="{radius}"/>'
        return
    others = shown.copy()
    others[[copy - 1 for copy in named]] = np.nan
    for group in np.array_split(np.arange(len(shown)), WIDTH - LEFT - RIGHT):
        if not np.isnan(others[group]).all():
            top, bottom, place = np.nanmax(others[group]), np.nanmin(others[group]), x(group.mean() + 1)
            yield f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{y(top):.1f}" y2="{y(bottom) + 1:.1f}"/>'


def _horizontal(y: float, tick: int) -> str:
    return (
        f'<line class="{"one" if tick == 0 else "grid"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">10{superscript(tick)}</text>'
    )


def _below(x: float, copy: int) -> str:
    return f'<text class="axis" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{copy:,}</text>'


def _ticks(low: float, high: float) -> list[int]:
    sizes = [size * 10**power for power in range(6) for size in (1, 2, 5)]
    step = next(size for size in sizes if (high - low) / size <= TICKS)
    return list(range(math.ceil(low / step) * step, math.floor(high / step) * step + 1, step))


def _round_copies(copies: int) -> list[int]:
    if copies <= 10:
        return list(range(1, copies + 1))
    step = max(1, round(copies / 8, 1 - len(str(copies // 8))))
    return [1, *(copy for copy in range(int(step), copies + 1, int(step)) if copy > 1)]
