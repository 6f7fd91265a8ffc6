"""Magnitude pruning: the smallest weights become zero.

Han, Pool, Tran and Dally, "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.trainable import Trainable, open_trainable

__all__ = ["ATTACKS", "prune_layers"]

SOURCE = "Han et al., NIPS 2015"
PROMISED_UP_TO = 0.65


def prune(stolen: Artefact, share: Share, *, folder: Path, seed: int, portion: float) -> Outcome:
    """Zero the smallest `portion` of every layer's weights; see `Run` for the other arguments."""
    model = open_trainable(stolen)
    prune_layers(model, portion)
    return Outcome(model.write(folder))


@torch.no_grad()
def prune_layers(model: Trainable, portion: float) -> None:
    """Zero the smallest `portion` of every tensor with more than one axis, in place."""
    for weight in model.weights.values():
        count = int(portion * weight.numel())
        if weight.ndim > 1 and count:
            limit = weight.abs().flatten().kthvalue(count).values
            weight[weight.abs() <= limit] = 0.0


ATTACKS = tuple(
    Attack(
        f"prune {portion:.0%}",
        "weights",
        SOURCE,
        partial(prune, portion=portion),
        promised=portion <= PROMISED_UP_TO,
        quick=portion == PROMISED_UP_TO,
    )
    for portion in (0.2, 0.4, 0.65, 0.8, 0.9)
)
