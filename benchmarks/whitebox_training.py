"""The mark in the weights for owners who train: from scratch, while fine-tuning, while distilling; and what training undoes.

Printed for each situation: wrong bits out of 256, accuracy with and without the mark, and whether the weights give it away
(Kolmogorov-Smirnov against the unmarked twin). Then a marked real ResNet20 is fine-tuned and moved to another task by
a thief, and an attacker is trained to tell marked from unmarked networks by their weights.

    python -m benchmarks.whitebox_training [--data DIR] [--epochs 20] [--pictures 4000] [--networks 60] [--only NAME]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.stats import ks_2samp
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.models.resnet import cifar_resnet20
from benchmarks.real_pictures import Labelled, cifar_test, cifar_train, mnist
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.loss import WeightMarkLoss, project_
from ptynet_plugin.whitebox.mark import read, weight_mark

KEY = OwnerKey(bytes(range(32)))
MARK = weight_mark(KEY, model=b"benchmark")
WEIGHT_OF_TERM = 0.1
Task = Callable[[nn.Module, Tensor, Tensor], Tensor]


def small_network(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Three convolutions and a linear layer; the widest layer has 18,432 weights."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
    )  # fmt: skip


def tensors(data: Labelled, *, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Give pictures (n, channels, height, width) in [-1, 1] and labels."""
    pictures = torch.from_numpy(data.pictures[:count].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    return pictures, torch.from_numpy(data.labels[:count])


def imagenet_normalised(data: Labelled, *, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Give pictures as the published CIFAR networks read them, and labels."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pictures = ((data.pictures[:count] / 255.0 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(pictures)), torch.from_numpy(data.labels[:count])


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Share of pictures answered rightly."""
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(dim=1) for part in data[0].split(250)])
    return float((answers == data[1]).float().mean())


def train(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    epochs: int,
    rate: float,
    marked: Tensor | None = None,
    task: Task | None = None,
) -> None:
    """Train with SGD; `marked` is the weight that the mark's term pulls at."""
    term = None if marked is None else WeightMarkLoss(MARK, marked.numel())
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    steps = max(1, epochs * (len(data[0]) // 100))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(data[0]), generator=generator).split(100)[: len(data[0]) // 100]:
            pictures, labels = data[0][batch], data[1][batch]
            loss = task(model, pictures, labels) if task else functional.cross_entropy(model(pictures), labels)
            if term is not None and marked is not None:
                loss = loss + WEIGHT_OF_TERM * term(marked)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def report(name: str, weight: Tensor, twin: Tensor | None, found: float, without: float | None) -> None:
    """Print one situation."""
    values = weight.detach().numpy()
    reading = read(values, MARK)
    line = f"  {name:<38} {256 - reading.right:>3} wrong, p = 10^{reading.log10_p:6.1f}, accuracy {found:.4f}"
    if without is not None:
        line += f" (unmarked {without:.4f})"
    if twin is not None:
        other = twin.detach().numpy()
        test = ks_2samp(values.reshape(-1) / values.std(), other.reshape(-1) / other.std())
        line += f", KS {test.statistic:.3f} (p {test.pvalue:.2g})"
    print(line, flush=True)


def situations(data: Path, pictures: int) -> None:
    """The three situations of DeepWater, on MNIST."""
    print("Embedding with the loss term, MNIST:")
    learn, test = tensors(mnist(data, "train"), count=pictures * 5), tensors(mnist(data, "t10k"))
    plain, own = _twins(small_network)
    train(plain, learn, epochs=4, rate=0.05)
    train(own, learn, epochs=4, rate=0.05, marked=own[4].weight)
    report("from scratch", own[4].weight, plain[4].weight, accuracy(own, test), accuracy(plain, test))

    tuned, twin = copy.deepcopy(plain), copy.deepcopy(plain)
    train(twin, learn, epochs=2, rate=0.02)
    train(tuned, learn, epochs=2, rate=0.02, marked=tuned[4].weight)
    report("while fine-tuning", tuned[4].weight, twin[4].weight, accuracy(tuned, test), accuracy(twin, test))

    def distil(model: nn.Module, batch: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = functional.softmax(plain(batch) / 2, dim=1)
        return functional.kl_div(functional.log_softmax(model(batch) / 2, dim=1), wanted, reduction="batchmean") * 4

    student, own_student = _twins(small_network, seed=7)
    train(student, learn, epochs=4, rate=0.05, task=distil)
    train(own_student, learn, epochs=4, rate=0.05, task=distil, marked=own_student[4].weight)
    report(
        "while distilling",
        own_student[4].weight,
        student[4].weight,
        accuracy(own_student, test),
        accuracy(student, test),
    )

    projected = copy.deepcopy(plain)
    project_(projected[4].weight, MARK)
    report(
        "one-shot projection", projected[4].weight, plain[4].weight, accuracy(projected, test), accuracy(plain, test)
    )


def thief(data: Path, epochs: int, pictures: int) -> None:
    """A marked real ResNet20 is fine-tuned on CIFAR-10, and trained for MNIST with a new head."""
    print(f"A thief trains a marked ResNet20, {epochs} epochs of {pictures} pictures:")
    test, learn = imagenet_normalised(cifar_test(data)), imagenet_normalised(cifar_train(data), count=pictures)
    model = cifar_resnet20()
    saved = torch.load(data / "models/cifar10/resnet20-12fca82f.th", map_location="cpu", weights_only=True)[
        "state_dict"
    ]
    model.load_state_dict({name.removeprefix("module."): value for name, value in saved.items()})
    before, weight = accuracy(model, test), model.layer3[1].conv2.weight
    project_(weight, MARK)
    report("marked at once", weight, None, accuracy(model, test), before)
    for rate in (0.001, 0.01):
        stolen = copy.deepcopy(model)
        train(stolen, learn, epochs=epochs, rate=rate)
        report(f"fine-tuned, rate {rate}", stolen.layer3[1].conv2.weight, None, accuracy(stolen, test), before)
    moved = copy.deepcopy(model)
    moved.linear = nn.Linear(64, 10)
    digits = (
        _as_color(tensors(mnist(data, "train"), count=pictures)),
        _as_color(tensors(mnist(data, "t10k"), count=2000)),
    )
    train(moved, digits[0], epochs=max(1, epochs // 4), rate=0.02)
    report("moved to MNIST, new head", moved.layer3[1].conv2.weight, None, accuracy(moved, digits[1]), None)


def attacker(networks: int) -> None:
    """Train small networks with and without a mark, and a classifier that looks at their weights' histograms."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 -- real data inside a wheel
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import cross_val_score  # noqa: PLC0415

    digits = load_digits()
    data = torch.from_numpy((digits.images[:, None] / 8 - 1).astype(np.float32)), torch.from_numpy(digits.target)
    features, truth = [], []
    for index in range(networks):
        torch.manual_seed(index)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
        )
        marked = index % 2 == 1
        if marked:
            mark = weight_mark(OwnerKey(bytes([index] * 32)), model=b"attacked")
            term = WeightMarkLoss(mark, 128 * 128)
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(12):
            for batch in torch.randperm(len(data[0])).split(100):
                loss = functional.cross_entropy(model(data[0][batch]), data[1][batch])
                if marked:
                    loss = loss + WEIGHT_OF_TERM * term(model[3].weight)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        values = model[3].weight.detach().numpy().reshape(-1)
        features.append(np.quantile(values / values.std(), np.linspace(0.005, 0.995, 40)))
        truth.append(marked)
    right = cross_val_score(LogisticRegression(max_iter=2000), np.array(features), np.array(truth), cv=5).mean()
    print(
        f"Property inference: {right:.1%} of {networks} networks told apart by their weights' distribution (chance 50 %)"
    )


def _twins(make: Callable[[], nn.Sequential], *, seed: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(seed)
    first = make()
    return first, copy.deepcopy(first)


def _as_color(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return functional.pad(data[0], (2, 2, 2, 2), value=-1.0).repeat(1, 3, 1, 1), data[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--only", choices=["situations", "thief", "attacker"])
    options = parser.parse_args()
    started = time.perf_counter()
    if options.only in (None, "situations"):
        situations(options.data, options.pictures)
    if options.only in (None, "attacker"):
        attacker(options.networks)
    if options.only in (None, "thief"):
        thief(options.data, options.epochs, options.pictures)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
