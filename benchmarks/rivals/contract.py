"""What every rival does: mark a target, and be asked for the mark.

embed(task, seed)   a Mark: the marked network and what its owner keeps
mark.verify(ask)    Evidence: hits by the scheme's own rule, and what they are worth under a null that holds
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.binomial import log10_binomial_p_value

__all__ = [
    "Ask",
    "Evidence",
    "Mark",
    "Null",
    "Pictures",
    "Rival",
    "Task",
    "evidence_of",
    "queries_at_half",
    "queries_needed",
]

Pictures = NDArray[np.uint8]
"""Shape (n, height, width, 3), uint8, RGB."""

Ask = Callable[[Pictures], NDArray[np.floating]]
"""A suspect: pictures to scores, shape (n, classes)."""

Null = Literal["own", "lent", "none"]
"""Whether a p-value holds by the scheme's own rules; only if labels are drawn after the triggers are fixed, as our protocol does
for it; or not at all, since one label serves every trigger: then the whole test is one draw, and p is never below 1/C."""

ALPHA = -9.0
MOST_QUERIES = 2000


@dataclass(frozen=True)
class Task:
    """A target and the owner's data.

    Attributes:
        name: Of the target.
        target: In evaluation; the spec's tensor to logits. Never changed: a rival works on a copy.
        spec: What it reads.
        pictures: The owner's training pictures.
        labels: Their classes, int64.
        abstract: The 100 abstract pictures of Adi et al., at the target's size; None without the data folder.
        last_layer: Dotted name of the target's last layer.
        batch: Pictures a step of fine-tuning.
        epochs: Of fine-tuning; the papers' own numbers are larger.
        triggers: At most so many of a trigger set that is taught to the target's own weights.
        optimiser: Of fine-tuning; SGD with momentum, or Adam where that destroyed the target (at 0.01 and 0.001).
        rates: Tried from the largest: an owner takes the first at which his model stays what it was.
    """

    name: str
    target: nn.Module
    spec: InputSpec
    pictures: Pictures = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    abstract: Pictures | None = field(default=None, repr=False)
    last_layer: str = "linear"
    batch: int = 64
    epochs: int = 4
    triggers: int = 100
    optimiser: Literal["SGD", "Adam"] = "SGD"
    rates: tuple[float, ...] = (0.01, 0.003, 0.001, 0.0003, 0.0001)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.spec.classes or 0)

    @property
    def side(self) -> int:
        """Height and width."""
        return int((self.spec.size or (0, 0))[0])

    def tensor(self, pictures: Pictures) -> Tensor:
        """Give pictures as the target reads them."""
        return torch.from_numpy(encode(pictures, self.spec))


@dataclass(frozen=True)
class Evidence:
    """What asking gave.

    Attributes:
        hits: Answers that were the trigger's label.
        queries: Triggers asked.
        accepted: Whether the scheme's own rule says "mine".
        rule: That rule in words.
        null: See `Null`.
        log10_p: Of the hits, under the null that holds.
        to_alpha: Queries until 1e-9 at this rate of hits; infinite where never.
        at_half: Queries until 1e-9 where half of the triggers are answered with their label; infinite where never.
    """

    hits: int
    queries: int
    accepted: bool
    rule: str
    null: Null
    log10_p: float
    to_alpha: float
    at_half: float = math.inf


class Mark(Protocol):
    """A marked model, and its owner's secrets."""

    def graph(self, task: Task) -> bytes:
        """Give what is served, and stolen: an ONNX model that reads the task's spec; its first output holds the scores."""
        ...

    def service(self, ask: Ask) -> Ask:
        """Give what the owner's service answers, where it does something around the model."""
        ...

    def added(self, task: Task) -> tuple[int, int]:
        """Give parameters and operations (two a multiply-add) of one picture that were added beside the target."""
        ...

    def verify(self, ask: Ask) -> Evidence:
        """Ask a suspect."""
        ...


@dataclass(frozen=True)
class Rival:
    """One scheme.

    Attributes:
        name: As the table says it.
        paper: Where it comes from.
        embed: Marks a task's target; `seed` is the owner's secret and the only randomness.
        output: What its model answers; "sums" are no distribution.
    """

    name: str
    paper: str
    embed: Callable[[Task, int], Mark]
    output: Literal["logits", "probabilities", "sums"] = "logits"


def evidence_of(
    answers: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    classes: int,
    null: Null,
    least: float,
    chance: float | None = None,
) -> Evidence:
    """Count hits and say what they are worth.

    Args:
        answers: Top class of each trigger.
        labels: What the scheme wants.
        classes: C.
        null: See `Null`.
        least: Share of hits from which the scheme itself says "mine".
        chance: Of a hit under the null; 1/C where not said.
    """
    hits, asked, rate = int((answers == labels).sum()), len(labels), chance or 1.0 / classes
    single = null == "none"
    log10_p = math.log10(rate) * (hits >= least * asked) if single else log10_binomial_p_value(hits, asked, rate)
    needed = math.inf if single else queries_needed(hits / asked, rate)
    rule = f"at least {least:.0%} of the triggers"
    half = math.inf if single else queries_at_half(rate)
    return Evidence(hits, asked, hits >= least * asked, rule, null, float(log10_p), needed, half)


def queries_needed(hit_rate: float, chance: float) -> float:
    """Give the registered length of an exact binomial test at which the expected hits are worth 1e-9; infinite beyond 2,000."""
    if hit_rate <= chance:
        return math.inf
    for length in range(1, MOST_QUERIES + 1):
        if log10_binomial_p_value(math.floor(hit_rate * length + 1e-9), length, chance) <= ALPHA + 1e-9:
            return float(length)
    return math.inf


def queries_at_half(chance: float) -> float:
    """Give the registered length of an exact binomial test at which at least half of the hits, DAWN's rule, are worth 1e-9."""
    for length in range(1, MOST_QUERIES + 1):
        if log10_binomial_p_value(-(-length // 2), length, chance) <= ALPHA + 1e-9:
            return float(length)
    return math.inf
