"""Trigger inversion: the smallest patch that sends every picture to one class, for each class; then it is unlearnt.

Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019, sections IV-B
(reverse engineering), IV-C (anomaly index above 2) and VI-C (unlearning on a fifth of the pictures).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from torch import Generator, Tensor

from model_store_tools.audit.attacks.on_weights import columns_of
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.trainable import Trainable, open_trainable
from model_store_tools.audit.training import Schedule, fit, label_loss, log_probabilities, pixels_of, seeded
from ptynet_plugin.spec import InputSpec

__all__ = ["ATTACKS"]

STEPS, BATCH, RATE = 60, 32, 0.1
SPARSITY = 0.01
MOST_CLASSES = 12
"""Of many classes, the first: a mark of ours gives every class the same share of its labels."""

FLAGGED = 2.0
UNLEARNING = Schedule(epochs=2)
PATCHED = 0.2


@dataclass(frozen=True)
class _Patch:
    """A patch in the model's input form: mask 0..1 and pattern, and the mask's sum."""

    mask: Tensor
    pattern: Tensor
    norm: float

    def on(self, pixels: Tensor) -> Tensor:
        return (1 - self.mask) * pixels + self.mask * self.pattern


def cleanse(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Invert and unlearn; see `Run`."""
    model, spec = open_trainable(stolen), stolen.spec
    pixels, labels = pixels_of(share, spec), torch.from_numpy(share.labels)
    with seeded(seed) as generator:
        patches = [_inverted(model, spec, pixels, kind, generator) for kind in range(min(model.classes, MOST_CLASSES))]
        scores = _anomalies([patch.norm for patch in patches])
        flagged = [patch for patch, score in zip(patches, scores, strict=True) if score > FLAGGED]
        unlearnt = flagged or [min(patches, key=lambda patch: patch.norm)]
        patched = pixels.clone()
        for row in torch.randperm(len(pixels), generator=generator)[: int(PATCHED * len(pixels))].tolist():
            patched[row : row + 1] = unlearnt[row % len(unlearnt)].on(pixels[row : row + 1])
        fit(
            list(model.weights.values()),
            patched,
            labels,
            label_loss(model.answer, spec),
            schedule=UNLEARNING,
            generator=generator,
            columns=columns_of(spec),
        )
    note = f"{len(flagged)} of {len(patches)} classes flagged, highest anomaly index {max(scores):.1f}"
    return Outcome(model.write(folder), len(share), note)


def _inverted(model: Trainable, spec: InputSpec, pixels: Tensor, kind: int, generator: Generator) -> _Patch:
    gain, offset = (torch.tensor(values, dtype=torch.float32) for values in spec.affine())
    if spec.layout != "NHWC":
        gain, offset = gain.view(-1, 1, 1), offset.view(-1, 1, 1)
    axis = 3 if spec.layout == "NHWC" else 1
    flat = pixels[:1].select(axis, 0).unsqueeze(axis)
    where = torch.full_like(flat, -2.0).requires_grad_(True)
    what = torch.zeros_like(pixels[:1]).requires_grad_(True)
    optimiser = torch.optim.Adam([where, what], RATE)
    wanted = torch.full((BATCH,), kind)
    for _ in range(STEPS):
        rows = torch.randint(len(pixels), (BATCH,), generator=generator)
        mask, pattern = where.sigmoid(), what.sigmoid() * 255 * gain + offset
        logs = log_probabilities(model.answer((1 - mask) * pixels[rows] + mask * pattern), spec)
        optimiser.zero_grad()
        (F.nll_loss(logs, wanted) + SPARSITY * mask.sum()).backward()
        optimiser.step()
    with torch.no_grad():
        mask = where.sigmoid()
        return _Patch(mask, what.sigmoid() * 255 * gain + offset, float(mask.sum()))


def _anomalies(norms: list[float]) -> list[float]:
    """Give how far below the median each norm lies, in units of the median deviation scaled to a normal's standard deviation."""
    values = np.array(norms)
    median = np.median(values)
    spread = 1.4826 * float(np.median(np.abs(values - median))) or 1.0
    return [float((median - value) / spread) for value in values]


ATTACKS = (
    Attack("Neural Cleanse", "inversion", "Wang et al., IEEE S&P 2019", cleanse, needs_data=True, promised=True),
)
