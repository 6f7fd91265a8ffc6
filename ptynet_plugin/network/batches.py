"""Drawing training batches: covers made up, one's own, or somebody else's as activations; triggers; what befalls them (torch).

Somebody else's covers are known only as what the public linear front makes of them, under noise. Their trigger is added behind
the front: a picture that is mid-grey under the trigger goes through disturbances and the first convolution, and
the cover's activations join it there. The front is linear, so the sum is what it would make of the blended picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from ptynet_plugin.images.augment import (
    augmented,
    blended_batch,
    carrier_basis,
    covers_batch,
    foreign_triggers,
    turned,
)
from ptynet_plugin.images.carriers import carriers
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.images.resize import resize
from ptynet_plugin.network.plan import TrainingPlan
from ptynet_plugin.network.weights import GRID

__all__ = ["Batch", "Batches", "SharedCovers"]

OWN = 0.5
"""Share of covers that are not procedural where there are others."""

GAIN = 0.7
"""Width of the random gain on shared covers, as wide as the disturbances' on whole pictures."""


@dataclass(frozen=True)
class SharedCovers:
    """Covers whose pictures stay with somebody else.

    Attributes:
        activations: Shape (covers, filters, places, places), as `ptynet_plugin.privacy.front.activations` makes them, noised.
        noise: Standard deviation of their noise, for the record.
    """

    activations: NDArray[np.float32]
    noise: float


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        pictures: Shape (batch, channels, GRID, GRID), 0..1.
        words: Of the first pictures, shape (positives, bits), entries +1 and -1; the rest are negatives.
        activations: What shared covers add behind the front, shape (batch, filters, places, places), 0 in rows without;
            None where nothing is shared.
    """

    pictures: Tensor
    words: Tensor
    activations: Tensor | None


class Batches:
    """Draws training batches.

    Args:
        secret: Whose carriers.
        design: Which probes.
        plan: How many, how strong.
        generator: Source of everything drawn.
        pictures: Covers of the owner, uint8 (height, width, channels).
        shared: Covers of somebody else, instead.
    """

    def __init__(
        self,
        secret: bytes,
        design: ProbeDesign,
        plan: TrainingPlan,
        generator: Generator,
        *,
        pictures: Sequence[NDArray[np.uint8]] | None = None,
        shared: SharedCovers | None = None,
    ) -> None:
        self._design, self._plan, self._generator = design, plan, generator
        self._basis = carrier_basis(carriers(secret, color=design.color, bits=design.bits))
        self._own = None if pictures is None else _on_grid(pictures)
        self._shared = None if shared is None else torch.from_numpy(shared.activations)
        parts = [covers_batch(512, design.channels, generator) for _ in range(max(1, plan.covers // 512))]
        self._pool = torch.cat(parts)

    def draw(self) -> Batch:
        """Draw one batch."""
        plan, generator = self._plan, self._generator
        negatives = round(plan.negatives * plan.batch)
        words = torch.randint(0, 2, (plan.batch - negatives, self._design.bits), generator=generator) * 2.0 - 1
        own = (words @ self._basis.flatten(1)).view(-1, *self._basis.shape[1:])
        triggers = torch.cat([own, foreign_triggers(negatives, self._design.color, generator)])
        share = torch.rand(plan.batch, 1, 1, 1, generator=generator)
        strength = (plan.weakest + (plan.strongest - plan.weakest) * share) * (self._design.strength / 256)
        strength = strength.clamp(max=1)
        strength[len(words) :: 2] = 0  # every second negative is a plain cover
        covers, elsewhere = self._covers()
        pictures = augmented(blended_batch(covers, triggers, strength), generator)
        return Batch(pictures, words, None if elsewhere is None else (1 - strength) * elsewhere)

    def _covers(self) -> tuple[Tensor, Tensor | None]:
        """Draw covers, and what is added to them behind the front; a shared cover is mid-grey before it."""
        count, generator = self._plan.batch, self._generator
        covers = turned(self._pool[torch.randint(len(self._pool), (count,), generator=generator)], generator)
        if self._own is not None:
            own = self._mixed(self._own[torch.randint(len(self._own), (2 * count,), generator=generator)].float() / 255)
            return torch.where(torch.rand(count, 1, 1, 1, generator=generator) < OWN, own, covers), None
        if self._shared is None:
            return covers, None
        chosen = torch.rand(count, 1, 1, 1, generator=generator) < OWN
        gain = 1 + GAIN * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5)
        elsewhere = gain * self._shared[torch.randint(len(self._shared), (count,), generator=generator)]
        return torch.where(chosen, torch.tensor(0.5), covers), chosen * elsewhere

    def _mixed(self, pairs: Tensor) -> Tensor:
        """Turn and mix pictures two by two, the first at least as strong as the second; shape (2 count, ...) to (count, ...)."""
        first, second = pairs.chunk(2)
        if not self._plan.mixed:
            return first
        weight = 0.5 + 0.5 * torch.rand(len(first), 1, 1, 1, generator=self._generator)
        return weight * turned(first, self._generator) + (1 - weight) * turned(second, self._generator)


def _on_grid(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Bring the owner's pictures to the canonical grid: uint8, shape (pictures, channels, GRID, GRID)."""
    return torch.from_numpy(np.stack([resize(one, (GRID, GRID)) for one in pictures])).permute(0, 3, 1, 2)
