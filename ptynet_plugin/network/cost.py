"""What PTYNet costs: parameters and operations, counted from its shapes (two operations for a multiply-add)."""

from __future__ import annotations

from ptynet_plugin.network.weights import GRID, Network

__all__ = ["feature_side", "flops", "parameters"]


def parameters(network: Network) -> int:
    """Count trained numbers: convolutions and linear layer; the code book is a table, not trained."""
    convolutions = sum(c.weight.size + c.bias.size for c in network.convolutions)
    return int(convolutions + network.linear_weight.size + network.linear_bias.size)


def flops(network: Network) -> int:
    """Count operations per picture from the canonical grid to the scores of all symbols."""
    total, side = 0, GRID
    for convolution in network.convolutions:
        side = _next_side(side, convolution.weight.shape[2], convolution.stride, convolution.padding)
        total += 2 * side * side * convolution.weight.size
    last = network.convolutions[-1].weight.shape[0]
    pooled = last * side * side if network.pool > 1 else 0
    return int(total + pooled + 2 * network.linear_weight.size + 2 * network.codebook.size)


def feature_side(network: Network) -> int:
    """Give the height and width of the features that enter the linear layer."""
    side = GRID
    for convolution in network.convolutions:
        side = _next_side(side, convolution.weight.shape[2], convolution.stride, convolution.padding)
    return side // network.pool


def _next_side(side: int, kernel: int, stride: int, padding: int) -> int:
    return (side + 2 * padding - kernel) // stride + 1
