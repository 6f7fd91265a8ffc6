"""How long and on what PTYNet is trained."""

from __future__ import annotations

from dataclasses import dataclass

from ptynet_plugin.network.module import Architecture

__all__ = ["PLAN", "QUICK_PLAN", "TrainingPlan"]


@dataclass(frozen=True)
class TrainingPlan:
    """How long and on what to train.

    Attributes:
        steps: Optimiser steps.
        batch: Pictures a step.
        negatives: Share of them without a trigger of this key.
        covers: Size of the pool of procedural covers.
        mixed: Whether covers that are not procedural are turned and mixed two by two, so that the network sees what they have in
            common and not each of them (docs/privacy.md).
        rate: Highest learning rate of the one-cycle schedule.
        weakest: Lowest strength of a trigger over the design's; strengths are uniform up to `strongest`.
        strongest: Highest strength of a trigger over the design's.
        silence: Weight of the negatives' loss.
        sharpness: Factor on the linear layer after training.
        held_out: Probes of the test at the end.
        architecture: Shape of the network; None for the one that suits the color.
    """

    steps: int = 800
    batch: int = 256
    negatives: float = 0.2
    covers: int = 6144
    mixed: bool = True
    rate: float = 4e-3
    weakest: float = 0.6
    strongest: float = 1.25
    silence: float = 0.05
    sharpness: float = 3.0
    held_out: int = 512
    architecture: Architecture | None = None


PLAN = TrainingPlan()
QUICK_PLAN = TrainingPlan(steps=150, batch=192, covers=1536, held_out=128)
"""Seconds instead of minutes; hears undisturbed probes well and disturbed ones less well."""
