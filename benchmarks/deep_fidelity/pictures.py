"""The three data sets of the paper as tensors, normalised as the authors do, with their augmentation for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.real_pictures import Labelled, cifar_jpeg, mnist

__all__ = ["SETS", "DataSet", "augmented", "load", "normalised"]

CIFAR100_RECORD = 2 + 3 * 32 * 32
"""Bytes of a record of CIFAR-100's binary form: coarse label, fine label, three colour planes."""


@dataclass(frozen=True)
class DataSet:
    """What the network sees, and how pixels become its input.

    Attributes:
        name: As on the command line.
        classes: Number of classes.
        mean: Of every channel, pixel values 0..1.
        std: Of every channel.
        augment: Whether training crops and flips.
    """

    name: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: bool


SETS = {
    "mnist": DataSet("mnist", 10, (0.1307,), (0.3081,), augment=False),
    "cifar10": DataSet("cifar10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), augment=True),
    "cifar100": DataSet("cifar100", 100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), augment=True),
}


def load(data: DataSet, shared: Path, cifar100: Path | None) -> tuple[Labelled, Labelled]:
    """Read training and test pictures.

    Args:
        data: Which set.
        shared: The optional data folder; CIFAR-10 there is JPEG of quality 75.
        cifar100: Folder with `train.bin` and `test.bin` of CIFAR-100's binary form.

    Raises:
        ValueError: No folder is given for CIFAR-100, or a file of it is not made of whole records.
    """
    if data.name == "mnist":
        return mnist(shared, "train"), mnist(shared, "t10k")
    if data.name == "cifar10":
        return cifar_jpeg(shared, "train"), _mixed(cifar_jpeg(shared, "test"))
    if cifar100 is None:
        raise ValueError("CIFAR-100 is not in the data folder; name the folder of its binary form with --cifar100")
    return _cifar100(cifar100 / "train.bin"), _cifar100(cifar100 / "test.bin")


def normalised(pictures: Tensor, data: DataSet) -> Tensor:
    """Bring uint8 pictures (batch, height, width, channels) to the network's input (batch, channels, height, width)."""
    mean, std = (torch.tensor(part, device=pictures.device) for part in (data.mean, data.std))
    return ((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def augmented(pictures: Tensor, order: torch.Generator, *, border: int = 4) -> Tensor:
    """Shift every picture by up to `border` pixels over black, and mirror half of them; uint8 in and out, shape kept."""
    count, height, width, _ = pictures.shape
    padded = functional.pad(pictures, (0, 0, border, border, border, border))
    down, across = (torch.randint(0, 2 * border + 1, (count,), generator=order) for _ in range(2))
    mirrored = torch.rand(count, generator=order) < 0.5
    rows = down[:, None] + torch.arange(height)
    columns = across[:, None] + torch.where(mirrored[:, None], torch.arange(width - 1, -1, -1), torch.arange(width))
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _mixed(pictures: Labelled) -> Labelled:
    """Mix pictures that lie class by class, so that the first of them are of all classes."""
    order = np.random.default_rng(0).permutation(len(pictures.labels))
    return Labelled(pictures.pictures[order], pictures.labels[order])


def _cifar100(file: Path) -> Labelled:
    octets = np.fromfile(file, np.uint8)
    if not len(octets) or len(octets) % CIFAR100_RECORD:
        raise ValueError(f"{file}: {len(octets)} bytes are no whole number of {CIFAR100_RECORD}-byte records")
    records = octets.reshape(-1, CIFAR100_RECORD)
    planes = records[:, 2:].reshape(-1, 3, 32, 32)
    return Labelled(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 1].astype(np.int64))
