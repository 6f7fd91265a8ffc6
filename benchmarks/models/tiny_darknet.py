"""Tiny Darknet (Redmon, https://pjreddie.com/darknet/tiny-darknet/), to load published weights into."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TinyDarknet"]

WIDTHS = (16, -1, 32, -1, 16, 128, 16, 128, -1, 32, 256, 32, 256, -1, 64, 512, 64, 512, 128)
"""Output channels of each convolution, 3x3 where it widens and 1x1 where it narrows; -1 is a pooling by two."""


class TinyDarknet(nn.Module):
    """18 convolutions, a 1x1 classifier and the mean over all places: 1.04 million parameters, 1 GFLOP."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            if width < 0:
                layers.append(nn.MaxPool2d(2))
                continue
            side = 3 if width > before or before == 3 else 1
            side = 1 if (before, width) == (64, 128) else side
            layers += [
                nn.Conv2d(before, width, side, 1, side // 2, bias=False),
                nn.BatchNorm2d(width, eps=1e-3),
                nn.LeakyReLU(0.1),
            ]
            before = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(before, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures in [0, 1], (batch, 3, height, width), to logits (batch, classes)."""
        scores: Tensor = self.classifier(self.features(x))
        return torch.mean(scores, dim=(2, 3))
