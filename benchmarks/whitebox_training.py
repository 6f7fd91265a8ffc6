"""The mark in the weights for owners who train: from scratch, while fine-tuning, while distilling.

Printed for each situation: wrong bits out of 256, accuracy with and without the mark, and whether the weights give it away
(Kolmogorov-Smirnov against the unmarked twin). Then an attacker is trained to tell marked from unmarked networks by their
weights, and networks trained apart are aligned to one another, none of which may be claimed. What a thief's training undoes is a
part of `whitebox_survival`.

    python -m benchmarks.whitebox_training [--data DIR] [--epochs 8] [--pictures 10000] [--networks 30] [--only NAME]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.real_pictures import Labelled, mnist
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.alignment import align, neutral
from ptynet_plugin.whitebox.loss import WeightMarkLoss, project_
from ptynet_plugin.whitebox.mark import Reading, read, weight_mark
from ptynet_plugin.whitebox.moments import input_moments
from ptynet_plugin.whitebox.topology import Layer

KEY = OwnerKey(bytes(range(32)))
MARK = weight_mark(KEY, model=b"benchmark")
WEIGHT_OF_TERM, RATE = 0.1, 0.1
ALPHA = -9
"""Log10 of the level at which a mark is claimed."""
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
    like: Tensor | None = None,
    task: Task | None = None,
) -> None:
    """Train with SGD; `marked` is the weight that is marked at once, its histogram kept, and then held by the mark's term.

    The term holds its distribution to that of `like`, where one is given.
    """
    if marked is not None:
        project_(marked, MARK, keep_histogram=True)
    term = None if marked is None else WeightMarkLoss(MARK, marked.numel(), like=like)
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


def situations(data: Path, pictures: int, epochs: int) -> None:
    """The three situations of DeepWater, on MNIST; an unmarked network of another start says what KS finds anyway."""
    print(f"Embedding while training, MNIST, {epochs} epochs of {pictures}:")
    learn, test = tensors(mnist(data, "train"), count=pictures), tensors(mnist(data, "t10k"))
    plain, own = _twins(small_network)
    train(plain, learn, epochs=epochs, rate=RATE)
    train(own, learn, epochs=epochs, rate=RATE, marked=own[4].weight)
    report("from scratch", own[4].weight, plain[4].weight, accuracy(own, test), accuracy(plain, test))
    _, other = _twins(small_network, seed=11)
    train(other, learn, epochs=epochs, rate=RATE)
    report("(unmarked, another start)", other[4].weight, plain[4].weight, accuracy(other, test), accuracy(plain, test))

    tuned, twin = copy.deepcopy(plain), copy.deepcopy(plain)
    train(twin, learn, epochs=epochs // 2, rate=RATE / 4)
    train(tuned, learn, epochs=epochs // 2, rate=RATE / 4, marked=tuned[4].weight)
    report("while fine-tuning", tuned[4].weight, twin[4].weight, accuracy(tuned, test), accuracy(twin, test))

    def distil(model: nn.Module, batch: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = functional.softmax(plain(batch) / 2, dim=1)
        return functional.kl_div(functional.log_softmax(model(batch) / 2, dim=1), wanted, reduction="batchmean") * 4

    student, own_student = _twins(small_network, seed=7)
    train(student, learn, epochs=epochs, rate=RATE, task=distil)
    train(own_student, learn, epochs=epochs, rate=RATE, task=distil, marked=own_student[4].weight)
    found = accuracy(own_student, test), accuracy(student, test)
    report("while distilling", own_student[4].weight, student[4].weight, *found)
    _, held = _twins(small_network, seed=7)
    train(held, learn, epochs=epochs, rate=RATE, task=distil, marked=held[4].weight, like=student[4].weight)
    found = accuracy(held, test), accuracy(student, test)
    report("while distilling, held to the twin", held[4].weight, student[4].weight, *found)

    projected = copy.deepcopy(plain)
    project_(projected[4].weight, MARK, moments=input_moments(projected, projected[4], learn[0][:500].split(100)))
    found = accuracy(projected, test), accuracy(plain, test)
    report("at once, least outputs", projected[4].weight, plain[4].weight, *found)
    projected = copy.deepcopy(plain)
    project_(projected[4].weight, MARK, keep_histogram=True)
    found = accuracy(projected, test), accuracy(plain, test)
    report("at once, histogram kept", projected[4].weight, plain[4].weight, *found)


def attacker(networks: int) -> None:
    """Train small networks with and without a mark, and classifiers that look at their weights (after RIGA, section 4).

    One sees 40 quantiles of the marked layer, one its singular values, each in units of the layer's size. A mark pulled in by
    the term alone, from the first values on, one put into the first values before training, and one whose distribution is held
    to that of an unmarked network the attacker does not have are compared.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    data = torch.from_numpy((digits.images[:, None] / 8 - 1).astype(np.float32)), torch.from_numpy(digits.target)
    plain = [_shadow(data, index, marked=False, first=False) for index in range(networks)]
    for name, first, held in WAYS:
        twins = (
            [_shadow(data, networks + index, marked=False, first=False) for index in range(networks)] if held else []
        )
        likes = [torch.from_numpy(twin[0]) for twin in twins] or [None] * networks
        marked = [_shadow(data, index, marked=True, first=first, like=likes[index]) for index in range(networks)]
        shown = ", ".join(f"{what} {_told_apart(marked, plain, see):.0%}" for what, see in VIEWS.items())
        wrong = sum(256 - right for _, right in marked) / networks
        print(
            f"Property inference, {name}: {shown} of {2 * networks} networks (chance 50 %); {wrong:.1f} wrong bits",
            flush=True,
        )


def strangers(data: Path, networks: int) -> None:
    """Train small networks of other starts on other pictures, align them to the reference, read: is one ever claimed?"""
    learn = tensors(mnist(data, "train"))
    reference = _layers(_trained(learn, 0))
    place = max(range(len(reference)), key=lambda index: reference[index].weight.size)
    clean, right = neutral(reference, MARK), []
    for index in range(1, networks + 1):
        aligned, _ = align(_layers(_trained(learn, index)), clean)
        right.append(read(aligned[place].stored(), MARK).right)
    claimed = sum(Reading(each, 0.0).log10_p < ALPHA for each in right)
    print(
        f"{networks} separately trained networks aligned to another: {claimed} claimed, {max(right)} bits at most, "
        f"{np.mean(right):.1f} on average (chance 128)",
        flush=True,
    )


def _trained(data: tuple[Tensor, Tensor], index: int) -> nn.Sequential:
    model, _ = _twins(small_network, seed=100 + index)
    own = slice(index * 1000 % 50_000, index * 1000 % 50_000 + 2000)
    train(model, (data[0][own], data[1][own]), epochs=2, rate=RATE)
    return model


def _layers(model: nn.Sequential) -> list[Layer]:
    """Give the layers with their channel groups: in a chain each reads what the one before writes."""
    weights = [part.weight.detach().numpy() for part in model if isinstance(part, nn.Conv2d | nn.Linear)]
    return [
        Layer(str(index), weight.reshape(*weight.shape[:2], -1), index, index + 1, weight.shape)
        for index, weight in enumerate(weights)
    ]


def _shadow(
    data: tuple[Tensor, Tensor], index: int, *, marked: bool, first: bool, like: Tensor | None = None
) -> tuple[NDArray[np.float32], int]:
    """Train one network; give the layer's weights and the right bits."""
    torch.manual_seed(index + 1000 * marked)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    layer, mark = model[3].weight, weight_mark(OwnerKey(index.to_bytes(32, "big")), model=b"attacked")
    if marked and first:
        project_(layer, mark, keep_histogram=True)
    term = WeightMarkLoss(mark, 128 * 128, like=like) if marked else None
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(12):
        for batch in torch.randperm(len(data[0])).split(100):
            loss = functional.cross_entropy(model(data[0][batch]), data[1][batch])
            if term is not None:
                loss = loss + WEIGHT_OF_TERM * term(layer)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    values = layer.detach().numpy().copy()
    return values, read(values, mark).right


def _told_apart(
    marked: list[tuple[NDArray[np.float32], int]],
    plain: list[tuple[NDArray[np.float32], int]],
    see: Callable[[NDArray[np.float32]], NDArray[np.float64]],
) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.array([see(values) for values, _ in (*marked, *plain)])
    truth = np.array([True] * len(marked) + [False] * len(plain))
    judge = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(cross_val_score(judge, features, truth, cv=5).mean())


def _quantiles(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.quantile(values / values.std(), np.linspace(0.005, 0.995, 40)))


def _spectrum(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.svd(values / values.std(), compute_uv=False)[::4], np.float64)


WAYS = (
    ("term alone", False, False),
    ("marked first, then held by the term", True, False),
    ("term alone, distribution held", False, True),
    ("marked first, distribution held", True, True),
)
"""Name, whether the first values are marked before training, whether the distribution is held to a twin's."""

VIEWS = {"histogram": _quantiles, "singular values": _spectrum}


def _twins(make: Callable[[], nn.Sequential], *, seed: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(seed)
    first = make()
    return first, copy.deepcopy(first)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--only", choices=["situations", "attacker", "strangers"])
    options = parser.parse_args()
    started = time.perf_counter()
    if options.only in (None, "situations"):
        situations(options.data, options.pictures, options.epochs)
    if options.only in (None, "attacker"):
        attacker(options.networks)
    if options.only in (None, "strangers"):
        strangers(options.data, options.networks)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
