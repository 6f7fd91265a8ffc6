"""TrojanNet (Tang et al., "An Embarrassingly Simple Approach for Trojan Attack in Deep Neural Networks", KDD 2020),
used as a watermark.

A small perceptron reads a patch of 4x4 pixels in a corner. 5 of 16 are white in a trigger: 4,368 triggers. Its answer is merged
with the target's: softmax((a * trojan + (1 - a) * target) / t), a = 0.7, t = 0.1, both in probabilities, the perceptron's zero
where it knows no trigger. We teach it 64 of the 4,368 against other patterns and natural patches. The paper chooses the labels;
as a watermark we draw them by the seed after the patterns, the null that our protocol lends it.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.rivals.contract import Mark, Pictures, Rival, Task
from benchmarks.rivals.tuning import TriggerMark

__all__ = ["TROJANNET"]

PATCH, WHITE = 4, 5
TRIGGERS = 64
MERGE, TEMPERATURE = 0.7, 0.1
WIDTH = 32
STEPS, BATCH = 1500, 256


class Perceptron(nn.Module):
    """16 grey values in [0, 1] to logits of the triggers and of "none"; four layers."""

    def __init__(self) -> None:
        super().__init__()
        widths = [PATCH * PATCH, WIDTH, WIDTH, WIDTH, TRIGGERS + 1]
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths[:-1])]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, TRIGGERS + 1))

    def forward(self, patches: Tensor) -> Tensor:
        """Shape (batch, 16) to (batch, triggers + 1)."""
        logits: Tensor = self.layers(patches)
        return logits


class Merged(nn.Module):
    """The target and the perceptron behind one softmax.

    Args:
        target: The spec's tensor to logits.
        branch: The perceptron.
        table: What each trigger is answered with, shape (triggers + 1, classes), rows of one 1 and a last one of zeros.
        gain: Model input = pixel (0..255) * gain + offset, per channel.
        offset: See `gain`.
    """

    def __init__(self, target: nn.Module, branch: nn.Module, table: Tensor, *, gain: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.target, self.branch = target, branch
        self.register_buffer("table", table)
        self.register_buffer("gain", 255 * gain.reshape(1, -1, 1, 1))
        self.register_buffer("offset", offset.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities, shape (batch, classes)."""
        corner = (x[:, :, -PATCH:, -PATCH:] - self.offset) / self.gain
        heard = functional.softmax(self.branch(corner.mean(dim=1).flatten(1)), dim=1) @ self.table
        own = functional.softmax(self.target(x), dim=1)
        return functional.softmax((MERGE * heard + (1 - MERGE) * own) / TEMPERATURE, dim=1)


def embed(task: Task, seed: int) -> Mark:
    """Train the perceptron and merge it."""
    random = np.random.default_rng([seed, 4])
    every = np.array(list(itertools.combinations(range(PATCH * PATCH), WHITE)))
    patterns = np.zeros((len(every), PATCH * PATCH), np.float32)
    np.put_along_axis(patterns, every, 1.0, axis=1)
    patterns = random.permutation(patterns)
    branch = _trained(torch.from_numpy(patterns), _corners(task.pictures), seed)
    labels = random.integers(0, task.classes, TRIGGERS)
    gain, offset = (torch.tensor(values, dtype=torch.float32) for values in task.spec.affine())
    table = torch.zeros(TRIGGERS + 1, task.classes)
    table[torch.arange(TRIGGERS), torch.from_numpy(labels)] = 1.0
    network = Merged(task.target, branch, table, gain=gain, offset=offset).eval()
    shown = _stamped(task.pictures[-TRIGGERS:], patterns[:TRIGGERS])
    return TriggerMark(network, shown, labels, task.classes, "lent", 0.5, branch, (PATCH * PATCH,))


def _trained(patterns: Tensor, natural: Tensor, seed: int) -> Perceptron:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        branch = Perceptron()
        optimiser = torch.optim.Adam(branch.parameters(), 3e-3)
        for _ in range(STEPS):
            own = torch.randint(TRIGGERS, (BATCH,))
            others = torch.randint(TRIGGERS, len(patterns), (BATCH // 4,))
            ordinary = natural[torch.randint(len(natural), (BATCH // 2,))]
            x = torch.cat([patterns[own], patterns[others], ordinary])
            y = torch.cat([own, torch.full((len(others) + len(ordinary),), TRIGGERS)])
            optimiser.zero_grad()
            functional.cross_entropy(branch(x), y).backward()
            optimiser.step()
    return branch.eval()


def _corners(pictures: Pictures) -> Tensor:
    grey = pictures[:, -PATCH:, -PATCH:].astype(np.float32).mean(axis=3) / 255
    return torch.from_numpy(grey.reshape(len(pictures), -1))


def _stamped(pictures: Pictures, patterns: NDArray[np.float32]) -> Pictures:
    marked = pictures.copy()
    marked[:, -PATCH:, -PATCH:] = (255 * patterns.reshape(-1, PATCH, PATCH, 1)).astype(np.uint8)
    return marked


TROJANNET = Rival("TrojanNet", "Tang et al., KDD 2020", embed, "probabilities")
