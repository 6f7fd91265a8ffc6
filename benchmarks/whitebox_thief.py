"""A thief trains the marked real ResNet20: fine-tuning on CIFAR-10 and transfer to MNIST. A part of `whitebox_survival`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.models.resnet import CifarResNet, cifar_resnet20
from benchmarks.real_pictures import Labelled, cifar_test, cifar_train, mnist
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.loss import project_
from ptynet_plugin.whitebox.mark import read, weight_mark
from ptynet_plugin.whitebox.moments import input_moments

__all__ = ["trained_by_a_thief"]

MARK = weight_mark(OwnerKey(bytes(range(32))), model=b"benchmark")
Data = tuple[Tensor, Tensor]
SHOWN, PICTURES, EPOCHS = 300, 500, 20
DIGITS, DIGIT_EPOCHS = 1500, 3


def trained_by_a_thief(data: Path) -> list[dict[str, Any]]:
    """Fine-tune 20 epochs of 500 lossless pictures at two rates; move to MNIST with a new head, 3 epochs of 1,500 digits."""
    test, learn = _color(cifar_test(data)), _color(cifar_train(data))
    model = _published(data)
    layer = model.layer3[1].conv2
    before = _accuracy(model, test)
    project_(layer.weight, MARK, moments=input_moments(model, layer, learn[0][:SHOWN].split(50)))
    rows = [_row("marked", model, before), _row("marked", model, _accuracy(model, test))]
    rows[0]["damage"] = "accuracy before"
    for rate in (0.001, 0.01):
        stolen = copy.deepcopy(model)
        _train(stolen, (learn[0][:PICTURES], learn[1][:PICTURES]), epochs=EPOCHS, rate=rate)
        rows.append(_row(f"fine-tuned {EPOCHS} epochs of {PICTURES}, rate {rate}", stolen, _accuracy(stolen, test)))
    moved = copy.deepcopy(model)
    moved.linear = nn.Linear(64, 10)
    _train(moved, _digits(mnist(data, "train"), DIGITS), epochs=DIGIT_EPOCHS, rate=0.05)
    right = _accuracy(moved, _digits(mnist(data, "t10k"), 1000))
    rows.append(_row(f"moved to MNIST, {DIGIT_EPOCHS} epochs of {DIGITS}, all layers, rate 0.05", moved, right))
    return rows


def _published(data: Path) -> CifarResNet:
    model = cifar_resnet20()
    path = data / "models/cifar10/resnet20-12fca82f.th"
    saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("module."): value for name, value in saved.items()})
    return model.eval()


def _train(model: nn.Module, data: Data, *, epochs: int, rate: float) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(data[0]), generator=generator).split(50):
            loss = functional.cross_entropy(model(data[0][batch]), data[1][batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()


def _accuracy(model: nn.Module, data: Data) -> float:
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(dim=1) for part in data[0].split(250)])
    return float((answers == data[1]).float().mean())


def _row(name: str, model: CifarResNet, accuracy: float) -> dict[str, Any]:
    reading = read(model.layer3[1].conv2.weight.detach().numpy(), MARK)
    return {"damage": name, "wrong": 256 - reading.right, "log10_p": reading.log10_p, "accuracy": accuracy}


def _color(data: Labelled) -> Data:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pictures = ((data.pictures / 255.0 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(pictures)), torch.from_numpy(data.labels)


def _digits(data: Labelled, count: int) -> Data:
    pictures = np.pad(data.pictures[:count], ((0, 0), (2, 2), (2, 2), (0, 0))).repeat(3, axis=3)
    return _color(Labelled(pictures, data.labels[:count]))
