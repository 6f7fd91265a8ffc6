"""PTYNet in plain numpy: slow, without an engine, and what the other realisations are held against."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ptynet_plugin.network.weights import Convolution, Network

__all__ = ["recognised", "soft_bits", "symbol_scores"]

Floats = NDArray[np.float32]


def soft_bits(network: Network, pixels: Floats) -> Floats:
    """Read pictures on the canonical grid.

    Args:
        network: What reads.
        pixels: Shape (batch, channels, GRID, GRID), 0..1.

    Returns:
        Shape (batch, bits), in -1..1.
    """
    for convolution in network.convolutions:
        pixels = _convolved(pixels, convolution)
    pool = network.pool
    if pool > 1:
        batch, channels, side = pixels.shape[0], pixels.shape[1], pixels.shape[2] // pool
        cut = pixels[:, :, : side * pool, : side * pool]
        pixels = cut.reshape(batch, channels, side, pool, side, pool).mean(axis=(3, 5))
    flat = pixels.reshape(len(pixels), -1)
    answers: Floats = np.tanh(flat @ network.linear_weight.T + network.linear_bias)
    return answers


def symbol_scores(network: Network, bits: Floats) -> Floats:
    """Correlate soft bits, shape (batch, bits), with all code words: shape (batch, symbols), in -1..1."""
    return (bits @ network.codebook.T.astype(np.float32) / network.bits).astype(np.float32)


def recognised(network: Network, scores: Floats) -> NDArray[np.int64]:
    """Decide: the symbol of each row of `scores`, or -1 where none fires; shape (batch,)."""
    top = np.partition(scores, -2, axis=1)[:, -2:]
    fires = (top[:, 1] > network.tau) & (top[:, 1] - top[:, 0] >= network.margin)
    return np.where(fires, scores.argmax(axis=1), -1)


def _convolved(pixels: Floats, convolution: Convolution) -> Floats:
    weight, stride, edge = convolution.weight, convolution.stride, convolution.padding
    padded = np.pad(pixels, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    batch, _, height, width = windows.shape[:4]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch * height * width, -1)
    made = columns @ weight.reshape(len(weight), -1).T + convolution.bias
    rectified: Floats = np.maximum(made, 0).reshape(batch, height, width, -1)
    return rectified.transpose(0, 3, 1, 2)
