"""How thieves train: stochastic gradient descent over their share, with whatever loss an attack brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from torch import Generator, Tensor, nn

from model_store_tools.audit.contract import Share
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec

__all__ = ["Loss", "Schedule", "batches", "fit", "label_loss", "log_probabilities", "pixels_of", "seeded"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""From the model's input tensor and the classes to a number to make small."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: Passes over the share.
        rate: Learning rate at the beginning; it falls along a cosine.
        batch: Pictures a step.
        decay: Weight decay.
    """

    epochs: int
    rate: float = 0.01
    batch: int = 64
    decay: float = 5e-4


@contextmanager
def seeded(seed: int) -> Iterator[Generator]:
    """Give a generator, and seed torch's own inside; its state is restored."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield Generator().manual_seed(seed)
    finally:
        torch.set_rng_state(state)


def pixels_of(share: Share, spec: InputSpec) -> Tensor:
    """Encode a share as the model reads it."""
    return torch.from_numpy(encode(share.pictures, spec))


def batches(
    pixels: Tensor, labels: Tensor, schedule: Schedule, generator: Generator, *, columns: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches of one epoch; half of them are mirrored, as in everybody's training.

    Args:
        pixels: Encoded pictures, shape (pictures, ...).
        labels: Classes or soft labels, one row a picture.
        schedule: Its `batch`.
        generator: Draws order and mirroring.
        columns: Axis along which to mirror.
    """
    order = torch.randperm(len(pixels), generator=generator)
    for rows in torch.split(order, schedule.batch):
        chosen = pixels[rows]
        mirrored = torch.rand(1, generator=generator).item() < 0.5
        yield (chosen.flip(columns) if mirrored else chosen), labels[rows]


def fit(
    weights: Sequence[nn.Parameter],
    pixels: Tensor,
    labels: Tensor,
    loss: Loss,
    *,
    schedule: Schedule,
    generator: Generator,
    columns: int,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train some weights; those the loss does not reach stay as they are.

    Args:
        weights: What is changed.
        pixels: Encoded pictures.
        labels: Classes, or soft labels, handed to the loss.
        loss: Of a batch.
        schedule: How long.
        generator: Draws batches.
        columns: Axis of the pictures' columns.
        after_step: Called after every step: keeps pruned weights at zero, say.
    """
    steps = schedule.epochs * -(-len(pixels) // schedule.batch)
    if steps == 0:
        return
    optimiser = torch.optim.SGD(weights, schedule.rate, momentum=0.9, weight_decay=schedule.decay, nesterov=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(schedule.epochs):
        for chosen, wanted in batches(pixels, labels, schedule, generator, columns=columns):
            optimiser.zero_grad()
            loss(chosen, wanted).backward()
            nn.utils.clip_grad_norm_(weights, 5.0)
            optimiser.step()
            cosine.step()
            after_step()


def log_probabilities(scores: Tensor, spec: InputSpec) -> Tensor:
    """Turn what a model answers, by its spec's `output`, into logarithms of probabilities."""
    if spec.output == "logits":
        return F.log_softmax(scores, dim=1)
    return scores if spec.output == "log-probabilities" else scores.clamp_min(1e-12).log()


def label_loss(answer: Callable[[Tensor], Tensor], spec: InputSpec, *, smoothing: float = 0.0) -> Loss:
    """Make the cross entropy of a model's answers, with smoothed labels where wanted."""

    def loss(pixels: Tensor, labels: Tensor) -> Tensor:
        logs = log_probabilities(answer(pixels), spec)
        hard = F.nll_loss(logs, labels)
        return hard if smoothing == 0 else (1 - smoothing) * hard - smoothing * logs.mean(dim=1).mean()

    return loss
