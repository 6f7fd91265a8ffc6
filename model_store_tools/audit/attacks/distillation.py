"""Distillation: a clone trained on softened answers and on the labels of the thief's pictures.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from torch import Tensor

from model_store_tools.audit.attacks.students import ANSWER, clone
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share

__all__ = ["ATTACKS", "softened"]

TEMPERATURE = 4.0
WEIGHT = 0.9


def distil(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Train a clone; see `Run`."""
    return clone(stolen, share, folder=folder, seed=seed, make_loss=partial(softened, torch.from_numpy(share.labels)))


def softened(
    labels: Tensor, student: Callable[[Tensor], Tensor], answers: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """Learn the softened answers, and the labels a little."""
    goal = F.softmax(answers / TEMPERATURE, dim=1)

    def loss(pixels: Tensor, rows: Tensor) -> Tensor:
        logits = student(pixels)
        soft = -(goal[rows] * F.log_softmax(logits / TEMPERATURE, dim=1)).sum(dim=1).mean()
        return WEIGHT * TEMPERATURE**2 * soft + (1 - WEIGHT) * F.cross_entropy(logits, labels[rows])

    return loss


ATTACKS = (
    Attack("distillation", "extraction", "Hinton et al., arXiv 1503.02531", distil, needs_data=True, answer=ANSWER),
)
