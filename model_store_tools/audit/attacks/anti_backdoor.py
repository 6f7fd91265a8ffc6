"""Anti-backdoor fine-tuning: unlearn the perturbations of pictures that most change what the model says.

After the minimax of Zeng et al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient" (I-BAU), ICLR 2022,
section 3, with plain alternation in place of the implicit hypergradient: one perturbation for all pictures is found
by gradient ascent, then the model learns to answer perturbed pictures as before, and again.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from model_store_tools.audit.attacks.adversarial_training import steps_in_input
from model_store_tools.audit.attacks.on_weights import trained
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.trainable import Trainable
from model_store_tools.audit.training import Loss, Schedule, label_loss
from ptynet_plugin.spec import InputSpec

__all__ = ["ATTACKS"]

SCHEDULE = Schedule(epochs=10)
RADIUS = 60.0
"""Grey levels: a trigger is anything but small."""
PACE = 4.0


def unlearn(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Fine-tune all weights; see `Run`."""
    return trained(stolen, share, folder=folder, seed=seed, schedule=SCHEDULE, make_loss=_unlearning)


def _unlearning(model: Trainable, spec: InputSpec) -> Loss:
    plain = label_loss(model.answer, spec)
    radius, pace = steps_in_input(spec, RADIUS), steps_in_input(spec, PACE)
    universal: Tensor | None = None

    def loss(pixels: Tensor, labels: Tensor) -> Tensor:
        nonlocal universal
        if universal is None:
            universal = torch.zeros_like(pixels[:1])
        universal = universal.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(plain(pixels + universal, labels), universal)
        universal = torch.minimum(torch.maximum(universal + pace * slope.sign(), -radius), radius).detach()
        return plain(pixels, labels) + plain(pixels + universal, labels)

    return loss


SOURCE = "Zeng et al., ICLR 2022"
ATTACKS = (Attack("anti-backdoor fine-tuning, 10 epochs", "weights", SOURCE, unlearn, promised=True, needs_data=True),)
