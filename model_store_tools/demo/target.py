"""The demo's target: a small convolutional network trained here and now on scikit-learn's handwritten digits.

1,797 real 8x8 pictures by 43 writers (UCI Optical Recognition of Handwritten Digits, inside scikit-learn's wheel), enlarged
to 28x28. The network is the user's in this story: nothing in it knows about marks.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["SPEC", "Digits", "TrainedTarget", "load_digits", "train_target"]

SIDE = 28
HELD_OUT = 360
MEAN, STD = 0.30, 0.35

SPEC = f"""\
color = "GRAY"
size = [{SIDE}, {SIDE}]
mean = [{MEAN}]
std = [{STD}]
output = "logits"
"""
"""`SPEC.toml` of the target: what cannot be read off the model itself."""


@dataclass(frozen=True)
class Digits:
    """Pictures and their digits.

    Attributes:
        train: uint8, shape (1437, 28, 28, 1).
        train_labels: int64, shape (1437,), 0 to 9.
        test: uint8, shape (360, 28, 28, 1).
        test_labels: int64, shape (360,).
    """

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class TrainedTarget:
    """The trained model on disk.

    Attributes:
        path: An ONNX file with a dynamic batch.
        accuracy: Share of held-out digits answered rightly.
    """

    path: Path
    accuracy: float


def load_digits(*, seed: int = 0) -> Digits:
    """Load, enlarge and split the digits."""
    from sklearn.datasets import load_digits as bundled  # noqa: PLC0415 -- only the demo needs scikit-learn

    data = bundled()
    order = np.random.default_rng(seed).permutation(len(data.images))
    pictures = np.stack([_enlarge(picture) for picture in data.images[order]])
    labels = data.target[order].astype(np.int64)
    return Digits(pictures[HELD_OUT:], labels[HELD_OUT:], pictures[:HELD_OUT], labels[:HELD_OUT])


def _enlarge(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    small = Image.fromarray((picture / 16 * 255).round().astype(np.uint8))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.uint8)[..., None]


def train_target(
    digits: Digits,
    path: Path,
    *,
    epochs: int = 6,
    seed: int = 0,
    on_epoch: Callable[[int, int], None] = lambda *_: None,
) -> TrainedTarget:
    """Train the target and export it to ONNX with a dynamic batch.

    Args:
        digits: From `load_digits`.
        path: ONNX file to write.
        epochs: Passes over the training pictures, batch 64.
        seed: Fixes initial weights and order.
        on_epoch: Called after every epoch with (done, all).
    """
    import torch  # noqa: PLC0415 -- slow to import, and not needed to verify

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network()
        pictures, labels = _tensor(digits.train), torch.from_numpy(digits.train_labels)
        optimiser = torch.optim.Adam(network.parameters(), 4e-3)
        for epoch in range(epochs):
            for rows in torch.split(torch.randperm(len(pictures)), 64):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(pictures[rows]), labels[rows]).backward()
                optimiser.step()
            on_epoch(epoch + 1, epochs)
    network.eval()
    with torch.no_grad():
        right = network(_tensor(digits.test)).argmax(1).numpy() == digits.test_labels
    _export(network, path)
    return TrainedTarget(path, float(right.mean()))


def _network() -> nn.Module:
    from torch import nn  # noqa: PLC0415 -- the demo's help needs no torch

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(1, 16), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 9, 10)
    )


def _tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    import torch  # noqa: PLC0415 -- the demo's help needs no torch

    return ((torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255) - MEAN) / STD


def _export(network: nn.Module, path: Path) -> None:
    import torch  # noqa: PLC0415 -- the demo's help needs no torch

    # the exporter reports on operators of packages we do not use, and trips over its own deprecations
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 1, SIDE, SIDE),),
            input_names=["pixels"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None  # it is None only where a file name is passed
    program.save(path)
