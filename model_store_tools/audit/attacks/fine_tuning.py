"""Fine-tuning: the last layer, everything, or a last layer begun anew.

Adi, Baum, Cisse, Pinkas and Keshet, "Turning Your Weakness Into a Strength", USENIX Security 2018, section 5.4: FTLL, FTAL,
RTLL and RTAL.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from model_store_tools.audit.attacks.on_weights import trained
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.trainable import Trainable
from model_store_tools.audit.training import Schedule

__all__ = ["ATTACKS", "renewed"]

SOURCE = "Adi et al., USENIX Security 2018"
LONG, SHORT = Schedule(epochs=20), Schedule(epochs=1)
SHORT_SHARE = 128


def tune(
    stolen: Artefact,
    share: Share,
    *,
    folder: Path,
    seed: int,
    schedule: Schedule,
    all_layers: bool,
    anew: bool,
    most: int,
) -> Outcome:
    """Train on the share; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: The thief's pictures.
        folder: Where the new model goes.
        seed: Of the training.
        schedule: How long and how fast.
        all_layers: Whether all weights are trained, or those of the last layer alone.
        anew: Whether the last layer begins with random weights.
        most: Most pictures used.
    """
    return trained(
        stolen,
        share.first(most),
        folder=folder,
        seed=seed,
        schedule=schedule,
        only=(lambda model: list(model.weights)) if all_layers else Trainable.last_layer,
        prepare=renewed if anew else lambda model, generator: lambda: None,
    )


@torch.no_grad()
def renewed(model: Trainable, generator: torch.Generator) -> Callable[[], None]:
    """Draw the last layer's weights again."""
    weight, *bias = [model.weights[name] for name in model.last_layer()]
    bound = (weight.numel() / model.classes) ** -0.5
    nn.init.uniform_(weight, -bound, bound, generator=generator)
    for each in bias:
        each.zero_()
    return lambda: None


def _attack(
    name: str, *, schedule: Schedule = LONG, all_layers: bool, anew: bool = False, quick: bool = False
) -> Attack:
    most = SHORT_SHARE if quick else 1 << 30
    run = partial(tune, schedule=schedule, all_layers=all_layers, anew=anew, most=most)
    return Attack(name, "weights", SOURCE, run, promised=True, quick=quick, needs_data=not quick)


ATTACKS = (
    _attack("fine-tune all, 1 epoch", schedule=SHORT, all_layers=True, quick=True),
    _attack("fine-tune last layer, 20 epochs", all_layers=False),
    _attack("fine-tune all, 20 epochs", all_layers=True),
    _attack("re-train last layer, 20 epochs", all_layers=False, anew=True),
    _attack("re-train last layer, then all, 20 epochs", all_layers=True, anew=True),
)
