"""PTYNet as a torch module to train, and its way back to plain numbers (`Network`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ptynet_plugin.network.weights import GRID, Convolution, Network

__all__ = ["ARCHITECTURES", "SPLIT", "Architecture", "Layer", "TrainablePTYNet"]


@dataclass(frozen=True)
class Layer:
    """One convolution: output channels, kernel side, stride, zero padding."""

    width: int
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Architecture:
    """Convolutions in order, the first without padding, and the average pooling before the linear layer (1 for none)."""

    layers: tuple[Layer, ...]
    pool: int = 1

    def side(self) -> int:
        """Give the height and width of the features that enter the linear layer."""
        side = GRID
        for layer in self.layers:
            side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
        return side // self.pool


ARCHITECTURES = {
    "RGB": Architecture((Layer(32, kernel=8, stride=4, padding=0), Layer(32, kernel=1, stride=1, padding=0))),
    "GRAY": Architecture(
        (
            Layer(8, kernel=3, stride=1, padding=0),
            Layer(32, kernel=6, stride=4, padding=0),
            Layer(32, kernel=1, stride=1, padding=0),
        )
    ),
}
"""Overlapping patches of 8x8 pixels at 7x7 places, all read by the linear layer: a trigger has at most twelve half-waves a
side, so nothing is lost by the coarse step, and a target pays for few nodes. One channel has no color to tell trigger from
cover: a layer at full resolution does so by tone (strokes on paper: 96 instead of 92 % recognised at equal strength)."""


SPLIT = ARCHITECTURES["RGB"]
"""For covers that come as activations, color or grey: its first convolution reads the patches the front reads."""


class TrainablePTYNet(nn.Module):
    """Convolutions with batch normalisation and ReLU, then one linear layer.

    Args:
        channels: Color channels, 1 or 3.
        bits: Number of soft bits.
        architecture: Its shape; None for the one that suits the color.
        front: Fixed orthonormal filters, shape (filters, channels, kernel, kernel), of which the first convolution's are to be
            mixtures; None leaves them free. What is shipped has the same shape either way.
    """

    def __init__(
        self,
        *,
        channels: int,
        bits: int,
        architecture: Architecture | None = None,
        front: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__()
        architecture = architecture or ARCHITECTURES["GRAY" if channels == 1 else "RGB"]
        self.architecture = architecture
        blocks: list[nn.Module] = []
        for layer in architecture.layers:
            blocks += [
                nn.Conv2d(channels, layer.width, layer.kernel, layer.stride, layer.padding, bias=False),
                nn.BatchNorm2d(layer.width),
                nn.ReLU(),
            ]
            channels = layer.width
        if architecture.pool > 1:
            blocks.append(nn.AvgPool2d(architecture.pool))
        self.features = nn.Sequential(*blocks, nn.Flatten())
        self.linear = nn.Linear(channels * architecture.side() ** 2, bits)
        if front is not None:
            parametrize.register_parametrization(self.features[0], "weight", _Mixture(front), unsafe=True)

    def forward(self, pixels: Tensor, activations: Tensor | None = None) -> Tensor:
        """Read pictures.

        Args:
            pixels: Shape (batch, channels, GRID, GRID), 0..1.
            activations: Added behind the front, shape (batch, filters, places, places); only with a front.

        Returns:
            Shape (batch, bits), before tanh.
        """
        first, *rest = self.features
        features = first(pixels)
        if activations is not None:
            mixing = first.get_parameter("parametrizations.weight.original")
            features = features + F.conv2d(activations, mixing[:, :, None, None])
        for layer in rest:
            features = layer(features)
        answer: Tensor = self.linear(features)
        return answer

    @torch.no_grad()
    def to_network(self, *, codebook: NDArray[np.int8], tau: float, margin: float, sharpness: float) -> Network:
        """Fold the batch normalisation in and give plain numbers.

        Args:
            codebook: Shape (symbols, bits), entries +1 and -1.
            tau: Lowest score that fires.
            margin: Lowest lead that fires.
            sharpness: Factor on the linear layer, so that tanh comes near hard bits.
        """
        convolutions = [module for module in self.features if isinstance(module, nn.Conv2d)]
        norms = [module for module in self.features if isinstance(module, nn.BatchNorm2d)]
        return Network(
            convolutions=tuple(_folded(one, norm) for one, norm in zip(convolutions, norms, strict=True)),
            pool=self.architecture.pool,
            linear_weight=_numbers(self.linear.weight * sharpness),
            linear_bias=_numbers(self.linear.bias * sharpness),
            codebook=codebook,
            tau=tau,
            margin=margin,
        )


class _Mixture(nn.Module):
    """Filters as mixtures of fixed orthonormal ones: (width, filters) to (width, channels, kernel, kernel)."""

    front: Tensor

    def __init__(self, front: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("front", torch.from_numpy(front.copy()))

    def forward(self, mixing: Tensor) -> Tensor:
        return torch.einsum("wf,fcyx->wcyx", mixing, self.front)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.einsum("wcyx,fcyx->wf", weight, self.front)


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Convolution:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise TypeError("batch normalisation without running statistics cannot be folded")
    gain = norm.weight / torch.sqrt(variance + norm.eps)
    return Convolution(
        weight=_numbers(convolution.weight * gain[:, None, None, None]),
        bias=_numbers(norm.bias - mean * gain),
        stride=int(convolution.stride[0]),
        padding=int(convolution.padding[0]),
    )


def _numbers(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)
