"""PTYNet as numbers: what training makes, and what every engine is built from.

One `Network` has three realisations that must agree: the torch module (training and torch targets), ONNX nodes (ONNX targets)
and nothing else. BatchNorm is folded into the convolutions before a `Network` is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID", "Convolution", "Network"]

GRID = 32
"""Height and width of the canonical picture PTYNet reads, in pixels."""


@dataclass(frozen=True)
class Convolution:
    """One convolution with ReLU behind it.

    Attributes:
        weight: float32, shape (out, in, kernel, kernel).
        bias: float32, shape (out,).
        stride: Step in pixels, both ways.
        padding: Zeros on every side, in pixels. 0 in the first one, so that a target's normalisation folds into it exactly.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: int
    padding: int


@dataclass(frozen=True)
class Network:
    """A trained PTYNet and its decision rule (DESIGN section 4).

    It reads pixels / 255 on the `GRID` x `GRID` canonical grid, shape (batch, channels, GRID, GRID); convolutions with ReLU,
    average pooling, one linear layer and tanh give n soft bits in (-1, 1); the score of symbol j is codebook[j] . bits / n.
    Symbol argmax fires if the best score is above `tau` and leads the second by at least `margin`.

    Attributes:
        convolutions: In order; the first has padding 0.
        pool: Kernel and stride of the average pooling before the linear layer, 1 for none.
        linear_weight: float32, shape (n, features), features in (channel, row, column) order.
        linear_bias: float32, shape (n,).
        codebook: int8, shape (J, n), entries +1 and -1.
        tau: Lowest best score that fires, in (0, 1).
        margin: Lowest lead over the second best score that fires.
    """

    convolutions: tuple[Convolution, ...]
    pool: int
    linear_weight: NDArray[np.float32]
    linear_bias: NDArray[np.float32]
    codebook: NDArray[np.int8]
    tau: float
    margin: float

    @property
    def channels(self) -> int:
        """Color channels it reads: 1 or 3."""
        return int(self.convolutions[0].weight.shape[1])

    @property
    def bits(self) -> int:
        """Length n of a code word."""
        return int(self.codebook.shape[1])

    @property
    def symbols(self) -> int:
        """Number J of symbols."""
        return int(self.codebook.shape[0])
