"""Real pictures with labels from the optional data folder, as arrays."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "Labelled",
    "cifar_jpeg",
    "cifar_test",
    "cifar_test_jpeg",
    "cifar_train",
    "imagenet_samples",
    "mnist",
    "zipped_pictures",
]

IMAGENET_SIDE = 224


@dataclass(frozen=True)
class Labelled:
    """Pictures and their classes.

    Attributes:
        pictures: Shape (n, height, width, channels), uint8.
        labels: Shape (n,).
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]


def cifar_test(data: Path) -> Labelled:
    """The first 1,000 test pictures of CIFAR-10, lossless."""
    return _cifar(data, [50])


def cifar_train(data: Path) -> Labelled:
    """The first 4,000 training pictures of CIFAR-10, lossless."""
    return _cifar(data, [0, 1, 2, 3])


def cifar_test_jpeg(data: Path) -> Labelled:
    """All 10,000 test pictures of CIFAR-10, as JPEG."""
    return cifar_jpeg(data, "test")


def cifar_jpeg(data: Path, split: str) -> Labelled:
    """CIFAR-10 as JPEG of quality 75, class by class: split "train" (50,000) or "test" (10,000)."""
    classes = (data / "cifar10" / "classes.txt").read_text().split()
    pictures, labels = [], []
    with zipfile.ZipFile(data / "cifar10" / f"cifar10_jpeg_{split}.zip") as file:
        for name in sorted(name for name in file.namelist() if name.endswith(".jpg")):
            pictures.append(np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB")))
            labels.append(classes.index(name.split("/")[-2]))
    return Labelled(np.stack(pictures), np.array(labels, np.int64))


def imagenet_samples(data: Path) -> Labelled:
    """1,000 pictures of ImageNet, one a class, the central 224 x 224 pixels."""
    folder = data / "imagenet_samples"
    with (folder / "labels.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    pictures, labels = [], []
    with zipfile.ZipFile(folder / "imagenet1000_short256_q90.zip") as file:
        members = {Path(name).name: name for name in file.namelist()}
        for row in rows:
            picture = Image.open(io.BytesIO(file.read(members[Path(row["file"]).name]))).convert("RGB")
            pictures.append(_centre(picture))
            labels.append(int(row["class_index"]))
    return Labelled(np.stack(pictures), np.array(labels, np.int64))


def mnist(data: Path, split: str) -> Labelled:
    """MNIST, split "train" or "t10k": 28 x 28 grey."""
    folder = data / "mnist"
    pixels = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes())[8:]
    pictures = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28, 1)
    return Labelled(pictures, np.frombuffer(labels, np.uint8).astype(np.int64))


def zipped_pictures(archive: Path) -> Iterator[NDArray[np.uint8]]:
    """Every JPEG of a zip in the order of names, each RGB at its own size."""
    with zipfile.ZipFile(archive) as file:
        for name in sorted(name for name in file.namelist() if name.lower().endswith((".jpg", ".jpeg"))):
            yield np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB"))


def _cifar(data: Path, batches: list[int]) -> Labelled:
    folder = data / "cifar10" / "lossless"
    every = np.load(folder / "labels_51000.npy").astype(np.int64)
    sheets = [np.asarray(Image.open(folder / f"batch_{batch:02d}.png").convert("RGB")) for batch in batches]
    labels = [every[1000 * batch : 1000 * batch + 1000] for batch in batches]
    return Labelled(np.concatenate([sheet.reshape(-1, 32, 32, 3) for sheet in sheets]), np.concatenate(labels))


def _centre(picture: Image.Image) -> NDArray[np.uint8]:
    width, height = picture.size
    if min(width, height) < IMAGENET_SIDE:
        scale = IMAGENET_SIDE / min(width, height)
        picture = picture.resize((max(IMAGENET_SIDE, round(width * scale)), max(IMAGENET_SIDE, round(height * scale))))
        width, height = picture.size
    left, top = (width - IMAGENET_SIDE) // 2, (height - IMAGENET_SIDE) // 2
    return np.asarray(picture.crop((left, top, left + IMAGENET_SIDE, top + IMAGENET_SIDE)), np.uint8)
