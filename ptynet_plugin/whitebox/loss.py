"""The mark in the weights for owners who train: a loss term for any torch loop, and a projection of a finished layer.

    project_(layer.weight, mark, keep_histogram=True)    # before training: the first weights, or the finished model's
    term = WeightMarkLoss(mark, layer.weight.numel())
    loss = task_loss + 0.1 * term(layer.weight)          # from scratch, while fine-tuning, while distilling

Marked first, the network is trained around the mark and the term has little to do: no bit stays wrong when training ends. It does
not hide the mark from an attacker with shadow networks, see docs/mark-in-the-weights.md.

The term is 0 where every bit is right by the margin, so it stops pulling when its work is done: a cross-entropy (Uchida et
al., arXiv 1701.04082) pulls for ever and widens the weights' distribution, which gives the mark away.

    term = WeightMarkLoss(mark, layer.weight.numel(), like=twin.weight)   # and keeps the distribution of an unmarked layer

holds the layer to the values and singular values of one that carries no mark: the same layer trained without, or the host's.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard
from torch import Tensor, nn

from ptynet_plugin.errors import UsageError
from ptynet_plugin.whitebox.mark import MARGIN, WeightMark, embed

__all__ = ["WeightMarkLoss", "project_"]

FACTOR = 256
LIKENESS = 10.0
"""Weight of the distribution against the bits: a squared relative distance of 1 % counts as much as a bit in ten short by 1."""


class WeightMarkLoss(nn.Module):
    """Mean of how far each bit's projection is short of the margin, in units of the weights' root mean square.

    Args:
        mark: Which bits.
        size: Number of weights of the layer.
        margin: Distance from 0 after embedding, in units of the root mean square.
        like: An unmarked layer of the same shape, to whose distribution the weights are held: the loss grows by `likeness`
            times the squared Wasserstein distances of sorted values and of singular values, relative to that layer's.
        likeness: How firmly.

    Raises:
        UsageError: Too few weights, or `like` has another size.
    """

    signs: Tensor
    rows: Tensor
    bits: Tensor
    values: Tensor
    spectrum: Tensor

    def __init__(
        self,
        mark: WeightMark,
        size: int,
        *,
        margin: float = MARGIN,
        like: Tensor | None = None,
        likeness: float = LIKENESS,
    ) -> None:
        super().__init__()
        if like is not None and like.numel() != size:
            raise UsageError(f"the layer to be like has {like.numel()} weights, the marked one {size}; give its twin")
        known = torch.empty(0, 0) if like is None else _rows(like.detach().float())
        self.register_buffer("values", known.reshape(-1).sort().values, persistent=False)
        self.register_buffer("spectrum", torch.linalg.svdvals(known), persistent=False)
        self.likeness = likeness
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
        short = torch.relu(self.margin - signed / scale).mean()
        return short + self.likeness * self.unlikeness(weight) if len(self.values) else short

    def unlikeness(self, weight: Tensor) -> Tensor:
        """Give how far values and singular values are from the unmarked layer's, squared and relative: 0 for equal ones."""
        matrix = _rows(weight.float())
        values: Tensor = (matrix.reshape(-1).sort().values - self.values).square().sum() / self.values.square().sum()
        # not differentiable where two singular values meet, which trained weights do not
        spectrum: Tensor = (torch.linalg.svdvals(matrix) - self.spectrum).square().sum() / self.spectrum.square().sum()
        return values + spectrum

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


def _rows(weight: Tensor) -> Tensor:
    """Give one row a filter."""
    return weight.reshape(len(weight), -1)


def _factors(length: int) -> tuple[int, ...]:
    factors = []
    while length > FACTOR:
        factors.append(FACTOR)
        length //= FACTOR
    return (*factors, length)
