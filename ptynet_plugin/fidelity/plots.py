"""Three pictures of fidelity as SVG: features in two dimensions, probabilities, a slice of the decision boundary.

Bare and packaged model are drawn side by side on the same scales, and what differs is drawn in black: a difference in one
picture would be seen.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["COLORS", "confidence_plot", "feature_plot", "slice_plot"]

Array = NDArray[Any]

COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
INK, PAPER, FAINT, GRAY = "#1b1e23", "#ffffff", "#e6e8eb", "#6a717b"
SIDE = 300
"""Of one panel, in pixels of the drawing."""

GAP, HEAD, FOOT = 24, 22, 26
HALF = 100
"""Height of either half of the probability plot."""

PANELS = ("bare model", "packaged model")
BINS = 20
LEGEND = 10
"""Classes named in a legend; further ones share its colours and are not."""

THUMBNAIL = 64


def feature_plot(host: Array, marked: Array, classes: NDArray[np.int64]) -> str:
    """Draw penultimate features of both models along the bare model's two main directions.

    Args:
        host: Of the bare model, shape (pictures, ...).
        marked: Of the packaged model, the same shape; a point that moved is drawn in black, with a line from where it was.
        classes: Top class of each picture, shape (pictures,), for the colors.
    """
    flat = [np.nan_to_num(np.asarray(part, np.float64).reshape(len(part), -1)) for part in (host, marked)]
    centre = flat[0].mean(axis=0)
    _, spread, directions = np.linalg.svd(flat[0] - centre, full_matrices=False)
    points = [_padded((part - centre) @ directions[:2].T) for part in flat]
    limit = max(float(np.abs(np.concatenate(points)).max()), 1e-12) * 1.06
    places = [_placed(part, limit) for part in points]
    shapes = [*_frame(0, PANELS[0]), *_frame(1, PANELS[1])]
    for label, before, after in zip(classes.tolist(), *places, strict=False):
        color, moved = COLORS[label % len(COLORS)], before != after
        shapes.append(_dot(0, before, color))
        if moved:
            shapes.append(_line(_at(1, before), _at(1, after)))
        shapes.append(_dot(1, after, INK if moved else color))
    told = np.square(spread[:2]).sum() / max(float(np.square(spread).sum()), 1e-12)
    words = f"two directions with {told:.0%} of the variance"
    for panel in (0, 1):
        shapes.append(_text(_at(panel, (SIDE / 2, SIDE + 17)), words, "middle"))
    title = "penultimate features of the bare and of the packaged model"
    return _svg(_width(), HEAD + SIDE + FOOT, [*shapes], title) + _legend(classes)


def confidence_plot(host: Array, marked: Array) -> str:
    """Draw how often the top class has which probability: the bare model upwards, the packaged one mirrored downwards.

    Args:
        host: Top probabilities of the bare model, shape (pictures,), in [0, 1].
        marked: Of the packaged model; bins that differ are drawn in black.
    """
    counts = [np.histogram(np.nan_to_num(part), bins=BINS, range=(0, 1))[0] for part in (host, marked)]
    top, width, middle = max(int(np.concatenate(counts).max()), 1), _width() / BINS, HEAD + HALF
    shapes = [_rectangle(0, HEAD, _width(), 2 * HALF, PAPER, stroke=FAINT)]
    for side, part in enumerate(counts):
        for index, count in enumerate(part.tolist()):
            height = (HALF - 10) * (count / top) ** 0.5
            color = INK if counts[0][index] != counts[1][index] else COLORS[0 if side == 0 else 7]
            y = middle - height if side == 0 else middle
            shapes.append(_rectangle(index * width + 0.5, y, width - 1, height, color))
    shapes.append(_line((0, middle), (_width(), middle)))
    shapes += [
        _text((6, HEAD + 16), f"{PANELS[0]}, at most {top} in a bin"),
        _text((6, HEAD + 2 * HALF - 8), PANELS[1]),
    ]
    shapes += [
        _text((x * _width(), HEAD + 2 * HALF + 17), f"{x:g}", anchor)
        for x, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    ]
    title = "probability of the top class, bare model up, packaged model down"
    return _svg(_width(), HEAD + 2 * HALF + FOOT, shapes, title)


def slice_plot(host: NDArray[np.int64], marked: NDArray[np.int64], corners: NDArray[np.uint8] | None = None) -> str:
    """Draw which class each point of a plane gets, points that differ in black.

    Args:
        host: Top classes of the bare model, shape (side, side).
        marked: Of the packaged model.
        corners: The three pictures that span the plane, shape (3, height, width, channels), to be shown beside it. They lie at a
            sixth of the side from the upper left, at the right of it and below it.
    """
    cell = SIDE / len(host)
    shapes = [*_frame(0, PANELS[0]), *_frame(1, PANELS[1]), *_tiles(host, 0), *_tiles(marked, 1)]
    for row, column in np.argwhere(host != marked).tolist():
        shapes.append(_rectangle(*_at(1, (column * cell, row * cell)), cell, cell, INK))
    for panel in (0, 1):
        shapes += [_corner(panel, name, place) for name, place in CORNERS.items()]
    drawn = _svg(
        _width(), HEAD + SIDE + 4, shapes, "decision boundary in a plane, bare model left, packaged model right"
    )
    return drawn + _legend(np.concatenate([host.ravel(), marked.ravel()])) + _thumbnails(corners)


CORNERS = {"A": (SIDE / 6, SIDE / 6), "B": (5 * SIDE / 6, SIDE / 6), "C": (SIDE / 6, 5 * SIDE / 6)}
"""Where `plane_pictures` puts the three pictures: it goes a quarter of their distance beyond them."""


def _tiles(classes: NDArray[np.int64], panel: int) -> list[str]:
    """Draw runs of equal classes as one rectangle each."""
    cell, shapes = SIDE / len(classes), []
    for row, values in enumerate(classes.tolist()):
        start = 0
        for column in range(1, len(values) + 1):
            if column == len(values) or values[column] != values[start]:
                x, y = _at(panel, (start * cell, row * cell))
                color = COLORS[values[start] % len(COLORS)]
                shapes.append(_rectangle(x, y, (column - start) * cell + 0.2, cell + 0.2, color))
                start = column
    return shapes


def _corner(panel: int, name: str, place: tuple[float, float]) -> str:
    x, y = _at(panel, place)
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="{PAPER}" fill-opacity=".85"/>'
    return ring + f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="12">{name}</text>'


def _thumbnails(corners: NDArray[np.uint8] | None) -> str:
    if corners is None:
        return ""
    shown = [
        f'<span>{name} <img alt="picture {name}" width="{THUMBNAIL}" height="{THUMBNAIL}" src="{_png(picture)}"></span>'
        for name, picture in zip(CORNERS, corners, strict=False)
    ]
    return f'<p class="thumbnails">{"".join(shown)}</p>'


def _png(picture: NDArray[np.uint8]) -> str:
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    if max(image.size) > 2 * THUMBNAIL:
        image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
    octets = io.BytesIO()
    image.save(octets, "PNG")
    return "data:image/png;base64," + base64.b64encode(octets.getvalue()).decode()


def _legend(classes: Iterable[int] | NDArray[np.int64]) -> str:
    present, often = np.unique(np.asarray(classes), return_counts=True)
    first = present[np.argsort(-often, kind="stable")][:LEGEND]
    named = [
        f'<span><i style="background:{COLORS[label % len(COLORS)]}"></i>class {label}</span>'
        for label in sorted(first.tolist())
    ]
    more = f"<span>and {len(present) - LEGEND} more</span>" if len(present) > LEGEND else ""
    return f'<p class="legend">{"".join(named)}{more}</p>'


def _padded(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1]))) if points.shape[1] < 2 else points


def _placed(points: NDArray[np.float64], limit: float) -> list[tuple[float, float]]:
    half = SIDE / 2
    return [(round(half + x / limit * half, 1), round(half - y / limit * half, 1)) for x, y in points.tolist()]


def _at(panel: int, place: tuple[float, float]) -> tuple[float, float]:
    return place[0] + panel * (SIDE + GAP), place[1] + HEAD


def _frame(panel: int, title: str) -> list[str]:
    x, y = _at(panel, (0, 0))
    return [_rectangle(x, y, SIDE, SIDE, PAPER, stroke=FAINT), _text((x, y - 7), title)]


def _dot(panel: int, place: tuple[float, float], color: str) -> str:
    x, y = _at(panel, place)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{color}" fill-opacity=".75"/>'


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<path d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}" stroke="{INK}" stroke-width="1"/>'


def _rectangle(x: float, y: float, width: float, height: float, fill: str, *, stroke: str | None = None) -> str:
    edge = ' shape-rendering="crispEdges"' if stroke is None else f' stroke="{stroke}"'
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}"{edge}/>'


def _text(place: tuple[float, float], words: str, anchor: str = "start") -> str:
    return f'<text x="{place[0]:.1f}" y="{place[1]:.1f}" text-anchor="{anchor}" font-size="12" fill="{GRAY}">{words}</text>'


def _width() -> float:
    return 2 * SIDE + GAP


def _svg(width: float, height: float, shapes: Sequence[str], title: str) -> str:
    content = "".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'font-family="system-ui, sans-serif"><title>{title}</title>{content}</svg>'
    )
