"""The front end for pictures of any size in an exported program.

`torch.export` needs pooling windows that are numbers, and here they depend on the picture. Means over windows are differences
of running sums, and the bilinear step takes two of them: gathers at computed places, at the cost of the pooling itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ptynet_plugin.network.weights import GRID

__all__ = ["shrunk_by_sums"]


def shrunk_by_sums(x: Tensor) -> Tensor:
    """Average over windows and resize to GRID x GRID, as `ptynet_plugin.images.frontend` plans it.

    Args:
        x: Shape (batch, channels, height, width), floating.

    Returns:
        Shape (batch, channels, GRID, GRID), same dtype. Sums are kept in float64: 512 pixels of 255 lose no digit.
    """
    rows = _shrunk_last(x.double().transpose(2, 3)).transpose(2, 3)
    return _shrunk_last(rows).to(x.dtype)


def _shrunk_last(x: Tensor) -> Tensor:
    side = x.shape[3]
    window = torch.sym_max(1, side // GRID)
    cells = side // window
    sums = torch.nn.functional.pad(x.cumsum(3), (1, 0))
    steps = torch.arange(GRID, dtype=torch.float64, device=x.device)
    centre = ((steps + 0.5) * cells / GRID - 0.5).clamp(min=0).minimum(torch.zeros_like(steps) + (cells - 1))
    low = centre.floor()
    high = (low + 1).minimum(torch.zeros_like(steps) + (cells - 1))
    share = centre - low
    shrunk: Tensor = _mean(sums, low, window) * (1 - share) + _mean(sums, high, window) * share
    return shrunk


def _mean(sums: Tensor, cell: Tensor, window: int) -> Tensor:
    first = (cell * window).long()
    mean: Tensor = (sums.index_select(3, first + window) - sums.index_select(3, first)) / window
    return mean
