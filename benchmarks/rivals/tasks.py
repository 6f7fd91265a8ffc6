"""The targets that rivals are measured on."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.models.resnet import cifar_resnet20
from benchmarks.models.tiny_darknet import TinyDarknet
from benchmarks.real_pictures import Labelled, cifar_test, cifar_train, imagenet_samples
from benchmarks.rivals.contract import Pictures, Task
from ptynet_plugin.spec import InputSpec

__all__ = ["cifar_task", "imagenet_task"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = {
    "input": "pixels",
    "scores": "scores",
    "color": "RGB",
    "layout": "NCHW",
    "dtype": "float32",
    "output": "logits",
}


def cifar_task(data: Path, *, pictures: int, epochs: int) -> tuple[Task, Labelled]:
    """ResNet20 on CIFAR-10, and the 1,000 test pictures."""
    saved = torch.load(data / "models/cifar10/resnet20-12fca82f.th", map_location="cpu", weights_only=True)
    target = cifar_resnet20().eval()
    target.load_state_dict({name.removeprefix("module."): value for name, value in saved["state_dict"].items()})
    spec = InputSpec(size=(32, 32), classes=10, mean=MEAN, std=STD, **NAMES)
    own = cifar_train(data)
    task = Task(
        "ResNet20",
        target,
        spec,
        own.pictures[:pictures],
        own.labels[:pictures],
        abstract=abstract_pictures(data, 32),
        epochs=epochs,
    )
    return task, cifar_test(data)


def imagenet_task(data: Path, *, pictures: int, epochs: int) -> tuple[Task, Labelled]:
    """Tiny Darknet on ImageNet samples; the owner trains on some of the 1,000 pictures, the others test."""
    target = TinyDarknet().eval()
    file = data / "models/converted/imagenet_tiny_darknet.state_dict.pth"
    target.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    spec = InputSpec(size=(224, 224), classes=1000, **NAMES)
    every = imagenet_samples(data)
    order = np.random.default_rng(0).permutation(len(every.pictures))
    own, test = order[:pictures], order[pictures : pictures + 200]
    task = Task(
        "Tiny Darknet",
        target,
        spec,
        every.pictures[own],
        every.labels[own],
        abstract=abstract_pictures(data, 224),
        last_layer="classifier",
        batch=8,
        epochs=epochs,
        triggers=20,
        optimiser="Adam",
        rates=(1e-4, 3e-5),
    )
    return task, Labelled(every.pictures[test], every.labels[test])


def abstract_pictures(data: Path, side: int) -> Pictures | None:
    """The 100 abstract pictures of Adi et al., squeezed to a square; None where they are absent."""
    archive = data / "trigger_sets" / "watermarknn_abstract100_short256_q92.zip"
    if not archive.is_file():
        return None
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        opened = (Image.open(io.BytesIO(file.read(name))).convert("RGB").resize((side, side)) for name in names)
        return np.stack([np.asarray(picture, np.uint8) for picture in opened])
