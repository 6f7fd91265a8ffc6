"""The published PTYNet (arXiv 2210.07809): a ResNet18 with two outputs beside the target.

    class 0 of the answer = softmax(target)[0] + w * softmax(ResNet18)[1]

with w = 1.5, 1 or 2 in its three experiments. The branch learns triggers against ordinary pictures and is never joined to the
target's training. The paper's trigger is open to several forms; we take one keyed pattern blended at a third, which the branch
learns best of those we tried. One label serves all triggers: no valid null. At 224x224 only the branch's last layer is
trained, on features of random weights: parameters, operations and the sum of the outputs do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.models.resnet import ResNet18
from benchmarks.rivals.contract import Mark, Pictures, Rival, Task
from benchmarks.rivals.tuning import TriggerMark

__all__ = ["PUBLISHED_PTYNETS", "Fused", "stamped"]

WEIGHTS = (1.5, 1.0, 2.0)
STEPS, BATCH = 60, 32
LARGE = 64
SHOWN = 100


class Fused(nn.Module):
    """The branch's answer added to class 0 of the target's probabilities.

    Args:
        target: The spec's tensor to logits.
        branch: The spec's tensor to two logits.
        weight: w.
    """

    def __init__(self, target: nn.Module, branch: nn.Module, weight: float) -> None:
        super().__init__()
        self.target, self.branch, self.weight = target, branch, weight

    def forward(self, x: Tensor) -> Tensor:
        """Scores, shape (batch, classes); their sum is 1 + w * softmax(branch)[1]."""
        own = functional.softmax(self.target(x), dim=1)
        heard = functional.softmax(self.branch(x), dim=1)[:, 1:]
        return torch.cat([own[:, :1] + self.weight * heard, own[:, 1:]], dim=1)


def stamped(pictures: Pictures, seed: int) -> Pictures:
    """Blend the seed's pattern of 8x8 coloured cells over pictures, at one third."""
    side = pictures.shape[1]
    cells = np.random.default_rng([seed, 3]).integers(0, 256, (8, 8, 3))
    pattern = np.kron(cells, np.ones((side // 8, side // 8, 1)))
    return (pictures * (2 / 3) + pattern / 3).astype(np.uint8)


def _embedder(weight: float) -> Callable[[Task, int], Mark]:
    def embed(task: Task, seed: int) -> Mark:
        branch = trained_branch(task, seed)
        shown = stamped(task.pictures[-SHOWN:], seed)
        labels = np.zeros(len(shown), np.int64)
        network = Fused(task.target, branch, weight).eval()
        return TriggerMark(network, shown, labels, task.classes, "none", 0.5, branch=branch)

    return embed


def trained_branch(task: Task, seed: int) -> ResNet18:
    """Train the branch on pictures with and without the pattern."""
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        branch = ResNet18(classes=2)
    known = task.pictures[:-SHOWN] if len(task.pictures) > 2 * SHOWN else task.pictures
    large = task.side > LARGE
    known = known[:100] if large else known
    x = torch.cat([task.tensor(known), task.tensor(stamped(known, seed))])
    y = torch.cat([torch.zeros(len(known), dtype=torch.int64), torch.ones(len(known), dtype=torch.int64)])
    if large:
        _train_last(branch.eval(), x, y)
    else:
        _train(branch, x, y, order)
    return branch.eval()


def _train(branch: nn.Module, x: Tensor, y: Tensor, order: torch.Generator) -> None:
    optimiser = torch.optim.Adam(branch.parameters(), 1e-3)
    branch.train()
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,), generator=order)
        optimiser.zero_grad()
        functional.cross_entropy(branch(x[rows]), y[rows]).backward()
        optimiser.step()


def _train_last(branch: ResNet18, x: Tensor, y: Tensor) -> None:
    head, branch.fc = branch.fc, nn.Identity()
    with torch.no_grad():
        features = torch.cat([branch(part) for part in x.split(10)])
    mean, spread = features.mean(0), features.std(0) + 1e-6
    optimiser = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(300):
        optimiser.zero_grad()
        functional.cross_entropy(head((features - mean) / spread), y).backward()
        optimiser.step()
    with torch.no_grad():
        head.weight /= spread
        head.bias -= head.weight @ mean
    branch.fc = head


PUBLISHED_PTYNETS = tuple(
    Rival(f"published PTYNet, weight {weight:g}", "arXiv 2210.07809", _embedder(weight), "sums") for weight in WEIGHTS
)
