"""Networks with random weights for measurements of cost, where what is answered does not matter."""

from __future__ import annotations

import io

import onnx
import torch
from torch import nn

from ptynet_plugin.network.module import TrainablePTYNet
from ptynet_plugin.network.weights import Network
from ptynet_plugin.symbols.codebook import code_words
from ptynet_plugin.symbols.threshold import MARGIN, choose_tau

__all__ = ["resnet18_onnx", "untrained_network"]


def untrained_network(*, channels: int = 3, bits: int = 64, symbols: int = 512, seed: int = 0) -> Network:
    """Make a PTYNet of the shape `ptynet train` gives it, with random weights: it fires on nothing."""
    torch.manual_seed(seed)
    model = TrainablePTYNet(channels=channels, bits=bits).eval()
    words = code_words(bytes([seed]) * 32, symbols=symbols, bits=bits)
    return model.to_network(codebook=words, tau=choose_tau(bits=bits, symbols=symbols), margin=MARGIN, sharpness=1.0)


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
