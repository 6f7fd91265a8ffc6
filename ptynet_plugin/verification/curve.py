"""The evidence after every symbol as an inline SVG: where it started, where it had to go, where it ended."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["evidence_curve", "superscript"]

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 40
TICKS = 5


def evidence_curve(evidence: Sequence[float], needed: float) -> str:
    """Draw log10 E over the number of symbols.

    Args:
        evidence: log10 E after each symbol.
        needed: log10 E at which the mark is shown.

    Returns:
        An `<svg>` element; it holds numbers and fixed words only.
    """
    values = [0.0, *evidence]
    low, high = min(values), max(*values, needed) * 1.08
    steps = max(len(values) - 1, 1)

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / steps

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(values))
    dots = (
        "".join(f'<circle cx="{x(i):.1f}" cy="{y(v):.1f}" r="2.5"/>' for i, v in enumerate(values))
        if steps <= 60
        else ""
    )
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Evidence after every symbol" class="curve">',
        *(_horizontal(y(tick), f"10{superscript(tick)}") for tick in _ticks(low, high)),
        *(_below(x(index), index) for index in _whole_ticks(steps)),
        f'<line class="needed" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(needed):.1f}" y2="{y(needed):.1f}"/>',
        f'<text class="needed" x="{LEFT + 4}" y="{y(needed) - 6:.1f}">shown from here</text>',
        f'<polyline class="evidence" points="{points}"/><g class="evidence">{dots}</g>',
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">symbols asked</text>',
        "</svg>",
    ]
    return "".join(parts)


def superscript(number: int) -> str:
    """Write an exponent: 12 as "¹²", -3 as "⁻³"."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _horizontal(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _below(x: float, index: int) -> str:
    return f'<text class="axis" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{index}</text>'


def _ticks(low: float, high: float) -> list[int]:
    """Give about `TICKS` round values that cover the range, zero among them."""
    step = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000) if (high - low) / size <= TICKS)
    first = int(-(-low // step))
    return [number * step for number in range(first, int(high // step) + 1)]


def _whole_ticks(steps: int) -> list[int]:
    step = max(1, -(-steps // 10))
    return list(range(0, steps + 1, step))
