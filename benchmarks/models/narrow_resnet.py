"""The narrow ResNet18 of Hua & Teoh (arXiv 2208.00563; widths and layers after the code they published): 16 to 128 channels.

A linear layer brings 128 pooled channels to 64 penultimate features, and a last layer without bias gives the logits, so that its
rows are the classes' prototypes and nothing else. The paper's network pools once and keeps that resolution through all four
stages; `strided` halves it from stage to stage and leaves the pooling out, at a fifth of the cost on a processor.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.models.resnet import Block

__all__ = ["NarrowResNet18"]

WIDTHS = (16, 16, 32, 64, 128)
FEATURES = 64


class NarrowResNet18(nn.Module):
    """About 0.7 million parameters.

    Args:
        channels: Of the pictures.
        classes: Number of classes.
        strided: Whether stages 2 to 4 halve the resolution behind a 3x3 stem; the paper's 7x7 stem with pooling otherwise.
    """

    def __init__(self, channels: int, classes: int = 10, *, strided: bool = False) -> None:
        super().__init__()
        kernel, pool = (3, nn.Identity()) if strided else (7, nn.MaxPool2d(3, 2, 1))
        stem = nn.Conv2d(channels, WIDTHS[0], kernel, 1, kernel // 2, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(), pool)
        blocks = []
        for stage in range(4):
            stride = 2 if strided and stage > 0 else 1
            blocks += [
                Block(WIDTHS[stage], WIDTHS[stage + 1], stride),
                Block(WIDTHS[stage + 1], WIDTHS[stage + 1], 1),
            ]
        self.stages = nn.Sequential(*blocks)
        self.fc = nn.Linear(WIDTHS[-1], FEATURES)
        self.out = nn.Linear(FEATURES, classes, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised pictures (batch, channels, side, side) to logits (batch, classes)."""
        pooled = self.stages(self.stem(pictures)).mean(dim=(2, 3))
        logits: Tensor = self.out(self.fc(pooled))
        return logits
