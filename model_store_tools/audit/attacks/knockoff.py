"""Model extraction: a clone trained on the answers to the thief's pictures, whole score vectors or labels alone.

Orekondy, Schiele and Fritz, "Knockoff Nets: Stealing Functionality of Black-Box Models", CVPR 2019, with a random choice of
pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from torch import Tensor

from model_store_tools.audit.attacks.students import ANSWER, clone
from model_store_tools.audit.contract import Attack

__all__ = ["ATTACKS", "hard"]

SOURCE = "Orekondy et al., CVPR 2019"


def soft(student: Callable[[Tensor], Tensor], answers: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Learn the probabilities."""
    return lambda pixels, rows: -(answers[rows].exp() * F.log_softmax(student(pixels), dim=1)).sum(dim=1).mean()


def hard(student: Callable[[Tensor], Tensor], answers: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Learn the top classes."""
    labels = answers.argmax(dim=1)
    return lambda pixels, rows: F.cross_entropy(student(pixels), labels[rows])


ATTACKS = (
    Attack("Knockoff, scores", "extraction", SOURCE, partial(clone, make_loss=soft), needs_data=True, answer=ANSWER),
    Attack("Knockoff, labels", "extraction", SOURCE, partial(clone, make_loss=hard), needs_data=True, answer=ANSWER),
)
