"""The table of deep fidelity for owners who train (Hua & Teoh, arXiv 2208.00563), and the row that beats it.

A host, then a watermark of 100 keyed triggers embedded into a copy of it, with ever more of the paper's means: plain
fine-tuning on labels; TWL; PFL; PFL + SPL; PFL + SPL + FixLL with BatchNorm frozen. Printed: accuracy, triggers learnt, and on
test pictures PFL, SPL and TWL against the host. PTYNet in the same archive has 0 in all three, as `ptynet fidelity` shows.

The defaults are sized for two processor cores and say nothing about the accuracy the paper reports; its own setting (50 epochs,
batch 32 + 4 triggers, Adam 1e-4, x0.1 half way) is `--paper`, for a machine with a day or a GPU.

    python -m benchmarks.fidelity_training [--set {mnist,cifar10}] [--pictures 3000] [--host-epochs 6] [--epochs 8] [--paper]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.models.resnet import Block
from benchmarks.real_pictures import cifar_test, cifar_train, mnist
from ptynet_plugin.fidelity import metrics
from ptynet_plugin.fidelity.losses import (
    FidelityWeights,
    batch_norm_frozen,
    feature_loss,
    fix_last_layer,
    softmax_loss,
    weight_loss,
)
from ptynet_plugin.images.covers import procedural_cover
from ptynet_plugin.images.resize import resize
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.symbols.encoding import tagged_digest

KEY = OwnerKey(bytes(range(32)))
TRIGGERS, CLASSES = 100, 10
Pair = tuple[Tensor, Tensor]


class NarrowResNet18(nn.Module):
    """ResNet18 for small pictures, a quarter or less of the usual width, stem without pooling.

    Args:
        channels: Of the pictures.
        width: Of the first stage; doubles with every stage.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stages = [
            Block(widths[i] if j == 0 else widths[i + 1], widths[i + 1], 2 if j == 0 and i > 0 else 1)
            for i in range(4)
            for j in range(2)
        ]
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(widths[-1], CLASSES)

    def features(self, pictures: Tensor) -> Tensor:
        """Penultimate features, shape (batch, 8 * width)."""
        return self.stages(self.stem(pictures)).mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.fc(self.features(pictures))
        return logits


@dataclass(frozen=True)
class Method:
    """One row of the table: which losses, whether labels of clean pictures are used, and what is frozen."""

    name: str
    weights: FidelityWeights
    clean_labels: bool = False
    fixed: bool = False


NONE = FidelityWeights(feature=0, softmax=0, weight=0)
METHODS = (
    Method("plain backdoor", NONE, clean_labels=True),
    Method("+ TWL", replace(NONE, weight=1.0), clean_labels=True),
    Method("+ PFL", FidelityWeights(softmax=0)),
    Method("+ PFL + SPL", FidelityWeights()),
    Method("+ PFL + SPL + FixLL", FidelityWeights(), fixed=True),
)


def triggers(side: int, channels: int) -> Pair:
    """Chain of keyed pictures: each label is a hash of its picture and of the digest before it, so none can be chosen."""
    color, digest, labels, pictures = ("GRAY" if channels == 1 else "RGB"), b"", [], []
    secret = KEY.derive("fidelity-training/v1")
    for index in range(TRIGGERS):
        picture = resize(procedural_cover(secret, index, 0, color=color), (side, side))
        digest = tagged_digest("trigger/v1", digest, picture.tobytes())
        labels.append(int.from_bytes(digest[:8], "big") % CLASSES)
        pictures.append(picture)
    return _tensor(np.stack(pictures)), torch.tensor(labels)


def train_host(model: NarrowResNet18, data: Pair, *, epochs: int, rate: float = 2e-3) -> None:
    """Train a host with Adam on labels."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(1, epochs * (len(data[0]) // 64)))
    model.train()
    for batch in _batches(len(data[0]), 64, epochs):
        optimiser.zero_grad()
        functional.cross_entropy(model(data[0][batch]), data[1][batch]).backward()
        optimiser.step()
        schedule.step()
    model.eval()


def embed_triggers(
    host: NarrowResNet18, data: Pair, own: Pair, method: Method, *, epochs: int, rate: float
) -> NarrowResNet18:
    """Teach a copy of the host the triggers, kept close to it by the method's losses."""
    model = copy.deepcopy(host)
    if method.fixed:
        fix_last_layer(model, host, "fc")
    learnt = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.Adam(learnt, lr=rate)
    steps = epochs * (len(data[0]) // 32)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(1, steps // 2), gamma=0.1)
    model.train()
    with batch_norm_frozen(model):
        for step, batch in enumerate(_batches(len(data[0]), 32, epochs)):
            turn = torch.arange(4 * step, 4 * step + 4) % TRIGGERS
            loss = functional.cross_entropy(model(own[0][turn]), own[1][turn])
            loss = loss + _kept(host, model, data[0][batch], data[1][batch], method)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def _kept(host: NarrowResNet18, model: NarrowResNet18, pictures: Tensor, labels: Tensor, method: Method) -> Tensor:
    features = model.features(pictures)
    logits, loss = model.fc(features), torch.zeros(())
    with torch.no_grad():
        wanted = host.features(pictures)
        host_logits = host.fc(wanted)
    if method.clean_labels:
        loss = loss + functional.cross_entropy(logits, labels)
    if method.weights.feature:
        loss = loss + method.weights.feature * feature_loss(wanted, features)
    if method.weights.softmax:
        loss = loss + method.weights.softmax * softmax_loss(host_logits, logits)
    if method.weights.weight:
        loss = loss + method.weights.weight * weight_loss(host, model)
    return loss


@torch.no_grad()
def measured(host: NarrowResNet18, model: NarrowResNet18, test: Pair, own: Pair) -> dict[str, float]:
    """Measure one row with the numpy metrics the gate uses."""
    features = [torch.cat([each.features(part) for part in test[0].split(250)]) for each in (host, model)]
    logits = [each.fc(part).numpy() for each, part in zip((host, model), features, strict=True)]
    weights = [{name: value.numpy() for name, value in each.named_parameters()} for each in (host, model)]
    return {
        "accuracy": float((logits[1].argmax(1) == test[1].numpy()).mean()),
        "triggers": float((model(own[0]).argmax(1) == own[1]).float().mean()),
        "PFL": metrics.feature_loss(features[0].numpy(), features[1].numpy()),
        "SPL": metrics.softmax_loss(logits[0], logits[1], "logits"),
        "TWL": metrics.total_weight_loss(*weights),
        "flips": float((logits[0].argmax(1) != logits[1].argmax(1)).mean()),
    }


def _batches(count: int, size: int, epochs: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        yield from torch.randperm(count, generator=generator).split(size)[: count // size]


def _tensor(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1)


def load(name: str, data: Path, count: int) -> tuple[Pair, Pair]:
    """Give training and test pictures with labels."""
    digits = name == "mnist"
    sets = (mnist(data, "train"), mnist(data, "t10k")) if digits else (cifar_train(data), cifar_test(data))
    learn, test = (
        (_tensor(part.pictures[:limit]), torch.from_numpy(part.labels[:limit]))
        for part, limit in zip(sets, (count, 1000), strict=True)
    )
    return learn, test


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--set", choices=["mnist", "cifar10"], default="mnist")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--host-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--paper", action="store_true", help="50 epochs at 1e-4 on every picture there is")
    options = parser.parse_args()
    if options.paper:
        options.pictures, options.host_epochs, options.epochs, options.rate, options.width = 60_000, 50, 50, 1e-4, 16
    torch.manual_seed(0)
    started = time.perf_counter()
    learn, test = load(options.set, options.data, options.pictures)
    channels, side = learn[0].shape[1], learn[0].shape[2]
    host = NarrowResNet18(channels, options.width)
    train_host(host, learn, epochs=options.host_epochs)
    own = triggers(side, channels)
    print(f"{options.set}, {len(learn[0])} pictures, width {options.width}, {options.epochs} epochs of embedding")
    _print("host", measured(host, host, test, own))
    for method in METHODS:
        model = embed_triggers(host, learn, own, method, epochs=options.epochs, rate=options.rate)
        _print(method.name, measured(host, model, test, own))
    print(f"{'PTYNet beside it':<22} the host's own answers: PFL, SPL, TWL and flips are 0 (`ptynet fidelity`)")
    print(f"{time.perf_counter() - started:.0f} s")


def _print(name: str, row: dict[str, float]) -> None:
    print(
        f"{name:<22} accuracy {row['accuracy']:.4f}  triggers {row['triggers']:.2f}  PFL {row['PFL']:9.3g}  "
        f"SPL {row['SPL']:9.3g}  TWL {row['TWL']:9.3g}  flips {row['flips']:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
