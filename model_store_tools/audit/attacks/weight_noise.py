"""Gaussian noise on every weight tensor, in units of its own standard deviation.

The weight shifting of Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network Watermarking?", IEEE
S&P 2022, without the fine-tuning after it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.trainable import open_trainable
from model_store_tools.audit.training import seeded

__all__ = ["ATTACKS"]

SOURCE = "Lukas et al., IEEE S&P 2022"
PROMISED_UP_TO = 0.1


def disturb(stolen: Artefact, share: Share, *, folder: Path, seed: int, amount: float) -> Outcome:
    """Add noise; see `Run` for the other arguments."""
    model = open_trainable(stolen)
    with seeded(seed) as generator, torch.no_grad():
        for weight in model.weights.values():
            if weight.ndim > 1:
                weight.add_(amount * weight.std() * torch.randn(weight.shape, generator=generator))
    return Outcome(model.write(folder))


ATTACKS = tuple(
    Attack(
        f"weight noise {amount:g}",
        "weights",
        SOURCE,
        partial(disturb, amount=amount),
        promised=amount <= PROMISED_UP_TO,
        quick=amount == PROMISED_UP_TO,
    )
    for amount in (0.05, 0.1, 0.3)
)
