"""Networks with random weights for measurements of cost, where what is answered does not matter."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import nn

from ptynet_plugin.network.cost import feature_side
from ptynet_plugin.network.weights import Convolution, Network
from ptynet_plugin.symbols.codebook import code_words

__all__ = ["resnet18_onnx", "untrained_network"]


def untrained_network(
    *,
    channels: int = 3,
    widths: Sequence[int] = (16, 16, 32),
    strides: Sequence[int] = (2, 2, 1),
    pool: int = 2,
    bits: int = 64,
    symbols: int = 512,
    seed: int = 0,
) -> Network:
    """Make a PTYNet of 3x3 convolutions with random weights, which fires on nothing."""
    rng = np.random.default_rng(seed)
    convolutions, before = [], channels
    for index, (width, stride) in enumerate(zip(widths, strides, strict=True)):
        weight = rng.normal(0, np.sqrt(2 / (9 * before)), (width, before, 3, 3)).astype(np.float32)
        convolutions.append(Convolution(weight, np.zeros(width, np.float32), stride, padding=int(index > 0)))
        before = width
    codebook = code_words(bytes([seed]) * 32, symbols=symbols, bits=bits)
    shell = Network(
        tuple(convolutions), pool, np.zeros((bits, 1), np.float32), np.zeros(bits, np.float32), codebook, 0.84, 0.2
    )
    features = before * feature_side(shell) ** 2
    weight = rng.normal(0, 0.05, (bits, features)).astype(np.float32)
    return Network(shell.convolutions, pool, weight, shell.linear_bias, codebook, 0.84, 0.2)


def resnet18_onnx(*, classes: int = 1000) -> onnx.ModelProto:
    """Make a ResNet18 (He et al., arXiv 1512.03385) with random weights: input (batch, 3, 224, 224), output logits."""

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1), nn.ReLU(), nn.Conv2d(after, after, 3, 1, 1)
            )
            self.side = nn.Conv2d(before, after, 1, stride) if stride > 1 or before != after else nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.body(x) + self.side(x))

    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for before, after, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers += [Block(before, after, stride), Block(after, after, 1)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes)).eval()
    file = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 224, 224),),
        file,
        dynamo=False,
        opset_version=17,
        input_names=["pixels"],
        output_names=["scores"],
        dynamic_axes={"pixels": {0: "batch"}, "scores": {0: "batch"}},
    )
    return onnx.load_from_string(file.getvalue())
