"""Two pictures of an audit as SVG: evidence left over accuracy kept, and the attacker's time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from model_store_tools.audit.suite import Row

__all__ = ["COLORS", "survival_plot", "time_plot"]

COLORS = {
    "survived": "#1c7c3c",
    "mark-lost": "#b3261e",
    "model-lost": "#b3800d",
    "attack-failed": "#5b6475",
    "refused": "#9aa1ad",
}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 340, 56, 16, 16, 44
LINE, LABELS = 19, 250


def survival_plot(rows: Sequence[Row]) -> str:
    """Draw every attack as a dot: how much of the model it kept, and how strong the evidence still is (10^x to one)."""
    measured = [(row, row.kept, -row.evidence.log10_p) for row in rows if row.evidence and row.kept is not None]
    most = max([12.0, *(strength for _, _, strength in measured)])
    widest = max([1.0, *(kept for _, kept, _ in measured)])

    def place(kept: float, strength: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * kept / widest
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * max(0.0, strength) / most

    shapes = []
    for tick in range(0, math.floor(most) + 1, 3):
        y = place(0, tick)[1]
        shapes.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        shapes.append(f'<text class="axis" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = place(share, 0)[0]
        shapes.append(
            f'<text class="axis" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{share:.0%}</text>'
        )
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    shapes.append(f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">kept of the model</text>')
    turned = f"translate(14 {HEIGHT / 2:.0f}) rotate(-90)"
    shapes.append(f'<text class="axis" transform="{turned}" text-anchor="middle">evidence, -log10 p</text>')
    for row, kept, strength in sorted(measured, key=lambda each: each[0].result != "survived"):
        x, y = place(kept, strength)
        title = escape(f"{row.attack}: {row.result}, {kept:.1%} kept, p = 10^{-strength:.1f}")
        look = f'r="5" fill="{COLORS[row.result]}" fill-opacity="0.65"'
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}><title>{title}</title></circle>')
    return _svg(WIDTH, HEIGHT, shapes, "evidence left over accuracy kept, one dot per attack")


def time_plot(rows: Sequence[Row]) -> str:
    """Draw the attacker's seconds on a logarithmic scale, colored by how the attack ended."""
    timed = [row for row in rows if row.result in ("survived", "mark-lost", "model-lost") and row.seconds >= 0.05]
    height = TOP + LINE * len(timed) + BOTTOM
    longest = max([1.0, *(row.seconds for row in timed)])
    low, high = math.log10(0.05), math.log10(longest * 1.05)
    span = WIDTH - LABELS - RIGHT - 60

    def length(seconds: float) -> float:
        return span * (math.log10(max(seconds, 0.05)) - low) / (high - low)

    shapes = []
    for number, row in enumerate(timed):
        y = TOP + LINE * number
        wide = max(2.0, length(row.seconds))
        shapes.append(f'<text class="axis" x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(row.attack)}</text>')
        look = f'height="{LINE - 6}" fill="{COLORS[row.result]}" fill-opacity="0.75"'
        shapes.append(f'<rect x="{LABELS}" y="{y + 3}" width="{wide:.1f}" {look}/>')
        shapes.append(f'<text class="axis" x="{LABELS + wide + 6:.1f}" y="{y + 13}">{row.seconds:.1f} s</text>')
    middle = LABELS + span / 2
    shapes.append(
        f'<text class="axis" x="{middle:.0f}" y="{height - 14}" text-anchor="middle">attacker\'s seconds, logarithmic</text>'
    )
    return _svg(WIDTH, height, shapes, "attacker's seconds, one bar per attack")


def _svg(width: int, height: int, shapes: Sequence[str], title: str) -> str:
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )
