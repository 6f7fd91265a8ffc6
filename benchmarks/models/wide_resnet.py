"""Wide residual networks (Zagoruyko & Komodakis, arXiv 1605.07146): `WideResNet(28, 10)` is WRN-28-10, 36.5 M parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["WideResNet"]


class PreActivationBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, inputs, side, side) to (batch, outputs, side / stride, side / stride)."""
        active = functional.relu(self.bn1(x))
        passed = x if self.shortcut is None else self.shortcut(active)
        branch: Tensor = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return branch + passed


class WideResNet(nn.Module):
    """A wide residual network for 32x32 pictures.

    Args:
        depth: Layers, 6n + 4.
        factor: How much wider than 16, 32, 64.
        classes: Number of classes.
        channels: Of the pictures.

    Raises:
        ValueError: The depth is not of the form 6n + 4.
    """

    def __init__(self, depth: int, factor: int, classes: int = 100, channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth {depth} is not 6n + 4; 10, 16, 22, 28 and so on are")
        widths = [16, 16 * factor, 32 * factor, 64 * factor]
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.groups = nn.Sequential(
            *(
                PreActivationBlock(
                    widths[group] if block == 0 else widths[group + 1],
                    widths[group + 1],
                    2 if block == 0 and group > 0 else 1,
                )
                for group in range(3)
                for block in range((depth - 4) // 6)
            )
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.out = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised pictures (batch, channels, side, side) to logits (batch, classes)."""
        x = functional.relu(self.norm(self.groups(self.stem(pictures))))
        logits: Tensor = self.out(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))
        return logits
