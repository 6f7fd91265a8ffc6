"""The mark in the weights for owners who train: a loss term for any torch loop, and a projection of a finished layer.

    project_(layer.weight, mark, keep_histogram=True)    # before training: the first weights, or the finished model's
    term = WeightMarkLoss(mark, layer.weight.numel())
    loss = task_loss + 0.1 * term(layer.weight)          # from scratch, while fine-tuning, while distilling

Marked first, the network is trained around the mark and the term has little to do: no bit stays wrong when training ends. It does
not hide the mark from an attacker with shadow networks, see docs/mark-in-the-weights.md.

The term is 0 where every bit is right by the margin, so it stops pulling when its work is done: a cross-entropy (Uchida et
al., arXiv 1701.04082) pulls for ever and widens the weights' distribution, which gives the mark away.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard
from torch import Tensor, nn

from ptynet_plugin.whitebox.mark import MARGIN, WeightMark, embed

__all__ = ["WeightMarkLoss", "project_"]

FACTOR = 256


class WeightMarkLoss(nn.Module):
    """Mean of how far each bit's projection is short of the margin, in units of the weights' root mean square.

    Args:
        mark: Which bits.
        size: Number of weights of the layer.
        margin: Distance from 0 after embedding, in units of the root mean square.

    Raises:
        UsageError: Too few weights.
    """

    signs: Tensor
    rows: Tensor
    bits: Tensor

    def __init__(self, mark: WeightMark, size: int, *, margin: float = MARGIN) -> None:
        super().__init__()
        projection = mark.projection(size)
        self.register_buffer("signs", torch.from_numpy(projection.signs.astype(np.float32)), persistent=False)
        self.register_buffer("rows", torch.from_numpy(projection.rows), persistent=False)
        self.register_buffer("bits", torch.from_numpy(mark.bits().astype(np.float32)), persistent=False)
        self._sides = _factors(projection.padded)
        for side in set(self._sides):
            matrix = torch.from_numpy(hadamard(side).astype(np.float32))
            self.register_buffer(f"hadamard_{side}", matrix, persistent=False)
        self.size, self.padded, self.margin = size, projection.padded, margin

    def forward(self, weight: Tensor) -> Tensor:
        """Give the loss of one layer.

        Args:
            weight: Any shape with `size` entries; gradients flow into it.

        Returns:
            A scalar, 0 or more.
        """
        flat = weight.reshape(-1).float()
        scale = flat.detach().square().mean().sqrt().clamp_min(1e-12)
        signed = self.projected(flat) * self.bits
        return torch.relu(self.margin - signed / scale).mean()

    def projected(self, flat: Tensor) -> Tensor:
        """Give the 256 projections of `size` weights, shape (256,)."""
        cube = nn.functional.pad(flat * self.signs, (0, self.padded - self.size)).reshape(self._sides)
        for axis, side in enumerate(self._sides):
            matrix = getattr(self, f"hadamard_{side}")
            cube = torch.tensordot(matrix, cube, dims=([1], [axis])).movedim(0, axis)
        return cube.reshape(-1)[self.rows] / math.sqrt(self.size)


@torch.no_grad()
def project_(
    weight: Tensor,
    mark: WeightMark,
    *,
    margin: float = MARGIN,
    moments: NDArray[np.floating] | None = None,
    keep_histogram: bool = False,
) -> None:
    """Move a layer's weights, in place and as little as possible, until every bit is right by the margin.

    Args:
        weight: Of a convolution or linear layer.
        mark: Which bits.
        margin: Distance from 0 in units of the root mean square.
        moments: What its filters read, see `input_moments`: outputs then change least.
        keep_histogram: Keep the values and exchange their places, see `embed`; best done before training.

    Raises:
        UsageError: Too few weights, all zero, or moments that do not fit.
    """
    values = weight.detach().cpu().numpy()
    moved = embed(values, mark, margin=margin, moments=moments, keep_histogram=keep_histogram)
    weight.copy_(torch.from_numpy(moved))


def _factors(length: int) -> tuple[int, ...]:
    factors = []
    while length > FACTOR:
        factors.append(FACTOR)
        length //= FACTOR
    return (*factors, length)
