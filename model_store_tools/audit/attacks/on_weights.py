"""What attacks by training share: open the stolen model, train some of its weights on the share, write it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from model_store_tools.audit.contract import Artefact, Outcome, Share
from model_store_tools.audit.trainable import Trainable, open_trainable
from model_store_tools.audit.training import Loss, Schedule, fit, label_loss, pixels_of, seeded
from ptynet_plugin.spec import InputSpec

__all__ = ["MakeLoss", "columns_of", "trained"]

MakeLoss = Callable[[Trainable, InputSpec], Loss]


def trained(
    stolen: Artefact,
    share: Share,
    *,
    folder: Path,
    seed: int,
    schedule: Schedule,
    only: Callable[[Trainable], list[str]] = lambda model: list(model.weights),
    prepare: Callable[[Trainable, torch.Generator], Callable[[], None]] = lambda model, generator: lambda: None,
    make_loss: MakeLoss = lambda model, spec: label_loss(model.answer, spec),
    note: str = "",
) -> Outcome:
    """Fine-tune.

    Args:
        stolen: See `Run`.
        share: See `Run`.
        folder: See `Run`.
        seed: See `Run`.
        schedule: How long and how fast.
        only: Names the weights that are trained.
        prepare: Changes weights before training; what it gives is called after every step.
        make_loss: Makes the loss.
        note: For the outcome.
    """
    model = open_trainable(stolen)
    with seeded(seed) as generator:
        after_step = prepare(model, generator)
        pixels, labels = pixels_of(share, stolen.spec), torch.from_numpy(share.labels)
        chosen = set(only(model))
        for name, weight in model.weights.items():
            weight.requires_grad_(name in chosen)
        weights = [model.weights[name] for name in model.weights if name in chosen]
        loss = make_loss(model, stolen.spec)
        fit(
            weights,
            pixels,
            labels,
            loss,
            schedule=schedule,
            generator=generator,
            columns=columns_of(stolen.spec),
            after_step=after_step,
        )
    return Outcome(model.write(folder), len(share), note)


def columns_of(spec: InputSpec) -> int:
    """Give the axis of a batch's columns."""
    return 2 if spec.layout == "NHWC" else 3
