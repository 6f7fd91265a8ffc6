"""How a target's input tensor becomes the canonical grid PTYNet reads, as a plan that every engine realises alike.

    model input -> mean over k x k windows -> bilinear to GRID x GRID -> channel order and normalisation undone

with k = max(1, side // GRID), windows that would be partial left out. Both steps are averages, so they commute with a
per-channel gain and offset: normalisation and channel order are undone last, by folding them into PTYNet's first
convolution, at no cost. That is exact only because that convolution pads nothing.

The bilinear step maps cell centres (half-pixel, edges clamped) without antialiasing: after pooling a side has fewer than
2 * GRID cells, so no cell is skipped. A side that pools to exactly GRID cells is not resized. The same rule holds
at run time where a side is dynamic. `torch.nn.functional.avg_pool2d` followed by `interpolate(mode="bilinear",
align_corners=False)`, and ONNX `AveragePool` followed by `Resize(mode="linear")`, compute just this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import SpecError
from ptynet_plugin.network.weights import GRID, Convolution
from ptynet_plugin.spec import InputSpec

__all__ = ["FrontEnd", "Side", "fold", "plan_front_end", "plan_side"]


@dataclass(frozen=True)
class Side:
    """How one side of the picture, rows or columns, shrinks or grows to GRID cells.

    Attributes:
        pixels: Length of the side.
        window: Pixels averaged into one cell, k.
        cells: Cells after averaging; the last `pixels - window * cells` pixels are not read.
    """

    pixels: int
    window: int
    cells: int

    @property
    def used(self) -> int:
        """Pixels that are read, counted from the first."""
        return self.window * self.cells

    @property
    def resized(self) -> bool:
        """Whether a bilinear step is needed."""
        return self.cells != GRID

    def matrix(self) -> NDArray[np.float32]:
        """Give the bilinear step as weights, float32, shape (GRID, cells); every row sums to 1."""
        centre = (np.arange(GRID) + 0.5) * self.cells / GRID - 0.5
        centre = np.clip(centre, 0, self.cells - 1)
        low = np.minimum(np.floor(centre).astype(np.int64), max(self.cells - 2, 0))
        high = np.minimum(low + 1, self.cells - 1)
        weights = np.zeros((GRID, self.cells))
        np.add.at(weights, (np.arange(GRID), low), 1 - (centre - low))
        np.add.at(weights, (np.arange(GRID), high), centre - low)
        return weights.astype(np.float32)


@dataclass(frozen=True)
class FrontEnd:
    """The plan for one target.

    Attributes:
        channels_last: Whether the input tensor is NHWC.
        order: `order[c]` is the input channel that holds canonical channel c (R, G, B, or gray).
        gain: Per canonical channel; pixel / 255 = input * gain + offset.
        offset: Per canonical channel.
        rows: The vertical side, None where height or width is dynamic.
        columns: The horizontal side, None where height or width is dynamic.
    """

    channels_last: bool
    order: tuple[int, ...]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    rows: Side | None
    columns: Side | None

    @property
    def channels(self) -> int:
        """Number of color channels."""
        return len(self.order)

    def at(self, size: tuple[int, int]) -> tuple[Side, Side]:
        """Give the sides for a picture of a size: the planned ones, or made for a dynamic plan."""
        if self.rows is not None and self.columns is not None:
            return self.rows, self.columns
        return plan_side(size[0]), plan_side(size[1])

    def flops(self, size: tuple[int, int]) -> int:
        """Count operations per picture: one for each pixel averaged, two for each multiply-add of a resize matrix."""
        rows, columns = self.at(size)
        pooled = 0 if rows.window == columns.window == 1 else rows.used * columns.used
        across = 2 * rows.cells * columns.cells * GRID if columns.resized else 0
        down = 2 * GRID * GRID * rows.cells if rows.resized else 0
        return self.channels * (pooled + across + down)

    def grid(self, pictures: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute the reference: what PTYNet sees, before channel order and normalisation are undone.

        Args:
            pictures: The model input, shape (batch, channels, height, width), or channels last.

        Returns:
            float32, shape (batch, channels, GRID, GRID), channels in the order of the input.
        """
        x = pictures.astype(np.float32)
        if self.channels_last:
            x = np.moveaxis(x, 3, 1)
        rows, columns = self.at((x.shape[2], x.shape[3]))
        x = x[:, :, : rows.used, : columns.used]
        windows = (len(x), self.channels, rows.cells, rows.window, columns.cells, columns.window)
        x = x.reshape(windows).mean(axis=(3, 5), dtype=np.float32)
        return np.asarray(rows.matrix() @ x @ columns.matrix().T, dtype=np.float32)

    def canonical(self, pictures: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute the reference: pixels / 255, shape (batch, channels, GRID, GRID), channels in canonical order."""
        x = self.grid(pictures)[:, list(self.order)]
        gain, offset = (np.asarray(v, dtype=np.float32).reshape(-1, 1, 1) for v in (self.gain, self.offset))
        return np.asarray(x * gain + offset, dtype=np.float32)


def plan_front_end(spec: InputSpec, size: tuple[int, int] | None = None) -> FrontEnd:
    """Plan the way from a model's input to the canonical grid.

    Args:
        spec: With layout and dtype set.
        size: Height and width, 0 for dynamic; `spec.size` if None.

    Raises:
        SpecError: The layout or the dtype is not known yet.
    """
    if spec.layout is None or spec.dtype is None:
        raise SpecError("the front end needs `layout` and `dtype`: complete the spec from the model first")
    height, width = size or spec.size or (0, 0)
    dynamic = height == 0 or width == 0
    gain, offset = spec.affine()
    order = (2, 1, 0) if spec.color == "BGR" else tuple(range(spec.channels))
    return FrontEnd(
        channels_last=spec.layout == "NHWC",
        order=order,
        gain=tuple(1 / (255 * gain[c]) for c in order),
        offset=tuple(-offset[c] / (255 * gain[c]) for c in order),
        rows=None if dynamic else plan_side(height),
        columns=None if dynamic else plan_side(width),
    )


def plan_side(pixels: int) -> Side:
    """Plan one side: the largest window that leaves at least GRID cells, or none for short sides."""
    window = max(1, pixels // GRID)
    return Side(pixels=pixels, window=window, cells=pixels // window)


def fold(convolution: Convolution, front_end: FrontEnd) -> Convolution:
    """Give PTYNet's first convolution as it must be to read the input's own values and channel order.

    Args:
        convolution: It reads pixels / 255 in canonical order and pads nothing.
        front_end: Whose gain, offset and order are folded in.

    Raises:
        ValueError: The convolution pads: zeros mean black only before folding.
    """
    if convolution.padding:
        raise ValueError(f"the first convolution pads {convolution.padding} pixels; folding needs 0")
    weight = convolution.weight.astype(np.float64)
    gain, offset = (np.asarray(v).reshape(1, -1, 1, 1) for v in (front_end.gain, front_end.offset))
    folded = np.empty_like(weight)
    folded[:, list(front_end.order)] = weight * gain
    bias = convolution.bias + (weight * offset).sum(axis=(1, 2, 3))
    return Convolution(folded.astype(np.float32), bias.astype(np.float32), convolution.stride, padding=0)
