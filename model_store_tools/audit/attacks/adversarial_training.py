"""Adversarial training: fine-tuning on the share's pictures and the worst within 4/255 of them, half and half.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
section 2.1 (PGD); with one step it is the FGSM training of Goodfellow, Shlens and Szegedy, ICLR 2015, section 6.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store_tools.audit.attacks.on_weights import trained
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.trainable import Trainable
from model_store_tools.audit.training import Loss, Schedule, label_loss
from ptynet_plugin.spec import InputSpec

__all__ = ["ATTACKS", "steps_in_input"]

RADIUS = 4.0
"""In grey levels of 0..255, in every pixel. At 8, and at five times the rate, a ResNet20 loses five sixths of its accuracy."""

RATE = 0.002


def harden(stolen: Artefact, share: Share, *, folder: Path, seed: int, steps: int, epochs: int) -> Outcome:
    """Fine-tune all weights on perturbed pictures; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: The thief's pictures.
        folder: Where the new model goes.
        seed: Of the training.
        steps: Steps of gradient ascent a picture.
        epochs: Passes over the share.
    """
    schedule = Schedule(epochs=epochs, rate=RATE)
    return trained(
        stolen, share, folder=folder, seed=seed, schedule=schedule, make_loss=partial(_worst_case, steps=steps)
    )


def _worst_case(model: Trainable, spec: InputSpec, *, steps: int) -> Loss:
    plain, radius = label_loss(model.answer, spec), steps_in_input(spec, RADIUS)

    def loss(pixels: Tensor, labels: Tensor) -> Tensor:
        moved = pixels
        for _ in range(steps):
            moved = moved.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(plain(moved, labels), moved)
            step = radius if steps == 1 else radius / 2
            moved = torch.minimum(torch.maximum(moved + step * slope.sign(), pixels - radius), pixels + radius)
        return 0.5 * plain(pixels, labels) + 0.5 * plain(moved.detach(), labels)

    return loss


def steps_in_input(spec: InputSpec, grey_levels: float) -> Tensor:
    """Give how far a picture's input tensor moves when a pixel moves by so many grey levels, to broadcast over a batch."""
    gain = torch.from_numpy(np.abs(np.array(spec.affine()[0], np.float32))) * grey_levels
    return gain.view(1, 1, 1, -1) if spec.layout == "NHWC" else gain.view(1, -1, 1, 1)


ATTACKS = (
    Attack(
        "adversarial training, FGSM, 5 epochs",
        "weights",
        "Goodfellow et al., ICLR 2015",
        partial(harden, steps=1, epochs=5),
        promised=True,
        needs_data=True,
    ),
    Attack(
        "adversarial training, PGD-3, 3 epochs",
        "weights",
        "Madry et al., ICLR 2018",
        partial(harden, steps=3, epochs=3),
        promised=True,
        needs_data=True,
    ),
)
