"""The clone: a small residual network that learns from what the stolen model answers, and how it is trained and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model_store_tools.audit.attacks.on_weights import columns_of
from model_store_tools.audit.contract import Artefact, Outcome, Share
from model_store_tools.audit.engines import open_engine
from model_store_tools.audit.training import Schedule, fit, log_probabilities, pixels_of, seeded
from model_store_tools.targets.torch_running import quietly

__all__ = ["ANSWER", "MakeLoss", "clone", "soft_answers"]

SCHEDULE = Schedule(epochs=20, rate=0.05)
WIDTHS = (16, 32, 64)
LARGEST_SIDE = 64

ANSWER = (
    "nothing in the model: PTYNet is silent on ordinary inputs, a clone does not learn it. Limit and watch queries; "
    "answer labels alone; a model its owner trains can carry a mark in its own behaviour (ptynet embed)"
)

MakeLoss = Callable[[Callable[[Tensor], Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]
"""From the student and the teacher's logarithms of probabilities, one row a picture, to a loss of pictures and rows."""


class Student(nn.Module):
    """Three stages of one residual block; larger pictures are reduced first."""

    def __init__(self, channels: int, classes: int, *, channels_last: bool) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.stem = nn.Sequential(nn.Conv2d(channels, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]))
        sizes = zip((WIDTHS[0], *WIDTHS[:-1]), WIDTHS, (1, 2, 2), strict=True)
        self.blocks = nn.Sequential(*(_Block(before, after, stride) for before, after, stride in sizes))
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Answer a batch in the stolen model's own input form with logits."""
        if self.channels_last:
            pixels = pixels.permute(0, 3, 1, 2)
        if max(pixels.shape[2:]) > LARGEST_SIDE:
            pixels = nn.functional.adaptive_avg_pool2d(pixels, LARGEST_SIDE)
        answer: Tensor = self.head(self.blocks(self.stem(pixels).relu()).mean(dim=(2, 3)))
        return answer


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))
        self.two = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        self.skip = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, value: Tensor) -> Tensor:
        answer: Tensor = (self.two(self.one(value).relu()) + self.skip(value)).relu()
        return answer


def clone(stolen: Artefact, share: Share, *, folder: Path, seed: int, make_loss: MakeLoss) -> Outcome:
    """Ask the stolen model once about every picture, and train a student from scratch on the answers.

    Args:
        stolen: What is asked; its file is not looked into.
        share: What it is asked about.
        folder: Where the student goes.
        seed: Of the training.
        make_loss: What of the answers is learnt.
    """
    spec = stolen.spec
    answers = torch.from_numpy(soft_answers(stolen, share))
    with seeded(seed) as generator:
        student = Student(spec.channels, answers.shape[1], channels_last=spec.layout == "NHWC")
        student.train()
        pixels, rows = pixels_of(share, spec).float(), torch.arange(len(share))
        loss = make_loss(student, answers)
        fit(
            list(student.parameters()),
            pixels,
            rows,
            loss,
            schedule=SCHEDULE,
            generator=generator,
            columns=columns_of(spec),
        )
    student.eval()
    with quietly(), torch.no_grad():
        traced = torch.jit.trace(student, pixels[:2], check_trace=False)
        torch.jit.save(traced, str(folder / "model.pt"))
    own = spec.model_copy(update={"output": "logits", "dtype": "float32", "input": None, "scores": None})
    return Outcome(replace(stolen, model=folder / "model.pt", form="torchscript", spec=own, filters=()), len(share))


def soft_answers(stolen: Artefact, share: Share) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Ask the stolen model; gives logarithms of probabilities, shape (pictures, classes)."""
    engine = open_engine(stolen)
    try:
        scores = torch.from_numpy(np.asarray(engine.scores(share.pictures), np.float32))
    finally:
        engine.close()
    return log_probabilities(scores, stolen.spec).numpy()
