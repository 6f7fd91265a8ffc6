"""Small torch models of every kind of answer, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model_store_tools.targets.torch_running import quietly

CLASSES = 10


class Pair(NamedTuple):
    """A named answer."""

    logits: Tensor
    features: Tensor


class Plain(nn.Module):
    """One convolution with BatchNorm, one linear layer, a constant and a buffer that is not saved with the weights."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.linear = nn.Linear(6, CLASSES)
        self.register_buffer("shift", torch.linspace(-1, 1, CLASSES), persistent=False)

    def features(self, x: Tensor) -> Tensor:
        """Give the penultimate features."""
        return torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.linear(self.features(x)) + self.shift


class ChannelsLast(Plain):
    """The same, for pictures with the channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.linear(self.features(x.permute(0, 3, 1, 2))) + self.shift


class FromBytes(Plain):
    """The same, for uint8 pictures."""

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.linear(self.features(x.to(torch.float32) / 255)) + self.shift


class Square(Plain):
    """The same, for one size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6 * 16 * 16, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Give the penultimate features."""
        return torch.relu(self.norm(self.conv(x))).flatten(1)


class Flattening(Plain):
    """Loses the batch: two pictures give one row, as a trace of a reshape does."""

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.linear(self.features(x).mean(dim=0, keepdim=True)) + self.shift


class TupleOf(Plain):
    """Answers features first, scores second."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures to (features, logits)."""
        features = self.features(x)
        return features, self.linear(features)


class NamedOf(Plain):
    """Answers a named tuple."""

    def forward(self, x: Tensor) -> Pair:
        """Pictures to logits and features."""
        features = self.features(x)
        return Pair(self.linear(features), features)


class ListOf(Plain):
    """Answers a list."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pictures to [features, logits]."""
        features = self.features(x)
        return [features, self.linear(features)]


class DictOf(Plain):
    """Answers a dictionary."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures to features and logits."""
        features = self.features(x)
        return {"features": features, "logits": self.linear(features)}


class Spatial(Plain):
    """Answers (batch, classes, 1, 1), as a network that ends in a pooling does."""

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to scores with two sides of 1."""
        return (self.linear(self.features(x)) + self.shift)[:, :, None, None]


class Labels(Plain):
    """Answers class numbers instead of scores."""

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to classes."""
        return self.linear(self.features(x)).argmax(1)


def make(kind: type[Plain] = Plain, *, seed: int = 0) -> Plain:
    """Make a model in evaluation mode with weights and BatchNorm statistics from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind()
        nn.init.uniform_(model.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(model.norm.running_var, 0.5, 2)
    return model.eval()


def scripted(model: nn.Module, path: Path) -> Path:
    """Write a model as TorchScript."""
    with quietly():
        torch.jit.save(torch.jit.script(model), str(path))
    return path


def exported(
    model: nn.Module, path: Path, *, side: int = 32, batch: int | None = None, open_sides: bool = False
) -> Path:
    """Write a model as an exported program: any batch unless one is given, any size where `open_sides`."""
    dims: dict[int, object] = {} if batch else {0: torch.export.Dim("batch", min=1, max=256)}
    if open_sides:
        dims |= {2: torch.export.Dim("height", min=32, max=512), 3: torch.export.Dim("width", min=32, max=512)}
    example = torch.zeros(batch or 2, 3, side + 8 * open_sides, side)
    with quietly():
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=(dims or None,)), path)
    return path


def loaded_script(path: Path) -> torch.jit.ScriptModule:
    """Load TorchScript without notices."""
    with quietly():
        return torch.jit.load(str(path))
