"""Fine-tuning a copy of a target on its data and triggers, as the schemes that change the target's own weights do."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.rivals.contract import Ask, Evidence, Null, Pictures, Task, evidence_of
from benchmarks.rivals.graphs import cost_of, exported

__all__ = ["TriggerMark", "fine_tuned"]

LOST = 0.05
"""Of accuracy on the owner's own pictures: more is not kept."""
MOMENTUM = 0.9
WINDOW, RISEN = 5, 1.5
"""Steps that are averaged, and by how many nats the pictures' loss may rise above the first ones' before a rate is given up."""


@dataclass
class TriggerMark:
    """A network that answers triggers with labels; see `Mark`.

    Attributes:
        network: The spec's tensor to scores.
        triggers: Asked.
        labels: Their labels.
        classes: C.
        null: What a p-value of the hits is worth.
        least: Share of hits from which the scheme says "mine".
        branch: What was added beside the target; None where its own weights were changed.
        reads: Shape of one row of the branch's input; the target's where None.
        rate: Of the fine-tuning that kept the target's accuracy.
    """

    network: nn.Module
    triggers: Pictures
    labels: NDArray[np.int64]
    classes: int
    null: Null
    least: float
    branch: nn.Module | None = None
    reads: tuple[int, ...] | None = None
    rate: float | None = None

    def graph(self, task: Task) -> bytes:
        """Export the network."""
        return exported(self.network, task)

    def service(self, ask: Ask) -> Ask:
        """Add nothing."""
        return ask

    def added(self, task: Task) -> tuple[int, int]:
        """Count the branch, at the target's input or the shape it reads itself."""
        if self.branch is None:
            return 0, 0
        example = task.tensor(task.pictures[:1]) if self.reads is None else torch.zeros(1, *self.reads)
        return cost_of(self.branch, example)

    def verify(self, ask: Ask) -> Evidence:
        """Ask every trigger once."""
        answers = ask(self.triggers).argmax(axis=1)
        return evidence_of(answers, self.labels, classes=self.classes, null=self.null, least=self.least)


def fine_tuned(
    task: Task, triggers: Pictures, labels: NDArray[np.int64], *, seed: int, share: int = 8
) -> tuple[nn.Module, float]:
    """Train a copy of the target on its pictures with their labels, and on some triggers in every batch.

    The rate is the largest of the task's after which at most `LOST` of the accuracy on the owner's pictures is lost; the smallest
    where none is. Gives the network and that rate.

    Args:
        task: Target, pictures, batch and epochs.
        triggers: Learnt beside the pictures.
        labels: Their labels.
        seed: Of the order.
        share: Triggers in a batch.
    """
    before = _accuracy(task.target, task)
    for rate in task.rates:
        model = _trained(task, triggers, labels, seed=seed, share=share, rate=rate)
        if model is not None and (rate == task.rates[-1] or before - _accuracy(model, task) <= LOST):
            return model, rate
    raise AssertionError("the smallest rate is never given up")


def _trained(
    task: Task, triggers: Pictures, labels: NDArray[np.int64], *, seed: int, share: int, rate: float
) -> nn.Module | None:
    """Train at one rate; None as soon as the pictures' loss has risen too far, unless it is the smallest rate."""
    model, order = copy.deepcopy(task.target), torch.Generator().manual_seed(seed)
    pictures, marks = task.tensor(task.pictures), task.tensor(triggers)
    truth, wanted = torch.from_numpy(task.labels), torch.from_numpy(labels)
    steps, losses = max(1, task.epochs * (len(pictures) // task.batch)), list[float]()
    optimiser = _optimiser(task, model, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    model.train()
    for step in range(steps):
        rows = torch.randint(len(pictures), (task.batch,), generator=order)
        turn = torch.arange(step * share, (step + 1) * share) % len(marks)
        optimiser.zero_grad()
        logits = model(torch.cat([pictures[rows], marks[turn]]))
        functional.cross_entropy(logits, torch.cat([truth[rows], wanted[turn]])).backward()
        losses.append(float(functional.cross_entropy(logits[: len(rows)].detach(), truth[rows])))
        if rate != task.rates[-1] and _destroyed(losses):
            return None
        optimiser.step()
        schedule.step()
    return model.eval()


def _optimiser(task: Task, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    if task.optimiser == "Adam":
        return torch.optim.Adam(model.parameters(), rate)
    return torch.optim.SGD(model.parameters(), rate, momentum=MOMENTUM)


def _destroyed(losses: list[float]) -> bool:
    if not np.isfinite(losses[-1]):
        return True
    return len(losses) >= 2 * WINDOW and float(np.mean(losses[-WINDOW:]) - np.mean(losses[:WINDOW])) > RISEN


def _accuracy(model: nn.Module, task: Task) -> float:
    with torch.inference_mode():
        parts = np.array_split(np.arange(len(task.pictures)), max(1, len(task.pictures) // 100))
        answers = [model(task.tensor(task.pictures[part])).argmax(dim=1).numpy() for part in parts]
    return float((np.concatenate(answers) == task.labels).mean())
