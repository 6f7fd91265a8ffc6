"""Three pictures of fidelity as SVG: features in two dimensions, confidence, a slice of the decision boundary.

Bare and packaged model are drawn over or beside each other, so that a difference of one picture would be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["confidence_plot", "feature_plot", "slice_plot"]

Array = NDArray[Any]

COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
INK, PAPER, FAINT = "#1b1e23", "#ffffff", "#d8dbe0"
SIDE = 320
MARGIN = 16
BINS = 20


def feature_plot(host: Array, marked: Array, classes: NDArray[np.int64]) -> str:
    """Draw penultimate features along the bare model's two main directions.

    Args:
        host: Of the bare model, shape (pictures, ...); drawn as rings.
        marked: Of the packaged model, the same shape; drawn as dots, which fill the rings where nothing moved.
        classes: Top class of each picture, shape (pictures,), for the colors.
    """
    flat = [np.nan_to_num(np.asarray(part, np.float64).reshape(len(part), -1)) for part in (host, marked)]
    centre = flat[0].mean(axis=0)
    _, _, directions = np.linalg.svd(flat[0] - centre, full_matrices=False)
    points = [(part - centre) @ directions[:2].T for part in flat]
    limit = max(float(np.abs(np.concatenate(points)).max()), 1e-12)
    shapes = [f'<rect width="{SIDE}" height="{SIDE}" fill="{PAPER}" stroke="{FAINT}"/>']
    for ring, dot, label in zip(*(_placed(part, limit) for part in points), classes.tolist(), strict=False):
        color = COLORS[label % len(COLORS)]
        shapes.append(f'<circle cx="{ring[0]:.1f}" cy="{ring[1]:.1f}" r="5" fill="none" stroke="{color}"/>')
        shapes.append(f'<circle cx="{dot[0]:.1f}" cy="{dot[1]:.1f}" r="2.5" fill="{color}"/>')
    return _svg(SIDE, SIDE, shapes, "penultimate features, rings: bare model, dots: packaged model")


def confidence_plot(host: Array, marked: Array) -> str:
    """Draw how often the top class has which probability: bars for the bare model, a line for the packaged one.

    Args:
        host: Top probabilities of the bare model, shape (pictures,), in [0, 1].
        marked: Of the packaged model.
    """
    counts = [np.histogram(np.nan_to_num(part), bins=BINS, range=(0, 1))[0] for part in (host, marked)]
    top, width = max(int(np.concatenate(counts).max()), 1), (SIDE - 2 * MARGIN) / BINS
    shapes = [f'<rect width="{SIDE}" height="{SIDE}" fill="{PAPER}" stroke="{FAINT}"/>']
    heights = [[(SIDE - 2 * MARGIN) * int(count) / top for count in part] for part in counts]
    for index, height in enumerate(heights[0]):
        x, y = MARGIN + index * width, SIDE - MARGIN - height
        shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - 1:.1f}" height="{height:.1f}" fill="{COLORS[7]}"/>'
        )
    steps = [
        (MARGIN + (index + side) * width, SIDE - MARGIN - h) for index, h in enumerate(heights[1]) for side in (0, 1)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
    shapes.append(f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5"/>')
    return _svg(SIDE, SIDE, shapes, "probability of the top class, bars: bare model, line: packaged model")


def slice_plot(host: NDArray[np.int64], marked: NDArray[np.int64]) -> str:
    """Draw which class each point of a plane gets: bare model left, packaged model right; points that differ in black.

    Args:
        host: Top classes of the bare model, shape (side, side).
        marked: Of the packaged model.
    """
    shapes = [*_tiles(host, 0), *_tiles(marked, SIDE + MARGIN)]
    cell = SIDE / len(host)
    for row, column in np.argwhere(host != marked).tolist():
        x, y = SIDE + MARGIN + column * cell, row * cell
        shapes.append(f'<rect x="{x:.2f}" y="{y:.2f}" width="{cell:.2f}" height="{cell:.2f}" fill="{INK}"/>')
    return _svg(
        2 * SIDE + MARGIN, SIDE, shapes, "classes in the plane of three pictures, left: bare, right: packaged model"
    )


def _tiles(classes: NDArray[np.int64], left: float) -> list[str]:
    """One rectangle for each run of equal classes in a row."""
    cell, shapes = SIDE / len(classes), []
    for row, values in enumerate(classes.tolist()):
        start = 0
        for column in range(1, len(values) + 1):
            if column == len(values) or values[column] != values[start]:
                x, width = left + start * cell, (column - start) * cell
                color = COLORS[values[start] % len(COLORS)]
                shapes.append(
                    f'<rect x="{x:.2f}" y="{row * cell:.2f}" width="{width:.2f}" height="{cell + 0.2:.2f}" fill="{color}"/>'
                )
                start = column
    return shapes


def _placed(points: NDArray[np.float64], limit: float) -> list[tuple[float, float]]:
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    half = SIDE / 2
    return [(half + x / limit * (half - MARGIN), half - y / limit * (half - MARGIN)) for x, y in points.tolist()]


def _svg(width: float, height: float, shapes: Sequence[str], title: str) -> str:
    content = "".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">'
        f"<title>{title}</title>{content}</svg>"
    )
