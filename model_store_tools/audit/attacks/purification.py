"""Purification: a small auto-encoder, trained on the thief's pictures to remove noise, before the model.

Meng and Chen, "MagNet: a Two-Pronged Defense against Adversarial Examples", CCS 2017, section 4.3 (the reformer).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from model_store_tools.audit.contract import Artefact, Attack, Outcome, Pictures, Share
from model_store_tools.audit.training import seeded

__all__ = ["ATTACKS"]

SOURCE = "Meng and Chen, CCS 2017"
STEPS, BATCH, CROP = 600, 32, 64
NOISE = 0.1
RATE = 2e-3
WIDTH, LATENT = 32, 12
"""Twelve numbers for each 4x4 pixels, a quarter of what a color picture has: an auto-encoder that copied would remove nothing."""


class Purifier(nn.Module):
    """Two halvings, two doublings; pictures 0..1 of any size divisible by 4, shape (rows, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2 * WIDTH, LATENT, 1),
            nn.Conv2d(LATENT, 2 * WIDTH, 3, 1, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * WIDTH, WIDTH, 3, 1, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(WIDTH, channels, 3, 1, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Restore a batch; sides that 4 does not divide are padded by their edge."""
        height, width = pixels.shape[2:]
        padded = nn.functional.pad(pixels, (0, -width % 4, 0, -height % 4), "replicate")
        answer: Tensor = self.layers(padded)
        return answer[:, :, :height, :width].clamp(0, 1)


def purify(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Train the auto-encoder and put it before the model; see `Run`."""
    with seeded(seed) as generator:
        module = Purifier(share.pictures.shape[3])
        _train(module, share.pictures, generator)
    module.eval()

    def restore(pictures: Pictures) -> Pictures:
        with torch.no_grad():
            restored = module(_as_tensor(pictures)) * 255
        return restored.round().byte().permute(0, 2, 3, 1).numpy().copy()  # type: ignore[no-any-return]  # torch leaves `numpy` untyped

    return Outcome(stolen.behind(restore), len(share))


def _train(module: Purifier, pictures: Pictures, generator: Generator) -> None:
    optimiser = torch.optim.Adam(module.parameters(), RATE)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(pictures), (BATCH,), generator=generator).numpy()
        clean = _as_tensor(_cropped(pictures, rows, generator))
        noisy = (clean + NOISE * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
        optimiser.zero_grad()
        nn.functional.mse_loss(module(noisy), clean).backward()
        optimiser.step()
        rate.step()


def _cropped(pictures: Pictures, rows: np.ndarray[tuple[int], np.dtype[np.int64]], generator: Generator) -> Pictures:
    """Take one window of at most CROP pixels a side: large pictures need no more to learn from."""
    height, width = pictures.shape[1:3]
    top, left = (
        int(torch.randint(max(1, side - CROP + 1), (1,), generator=generator).item()) for side in (height, width)
    )
    return pictures[rows, top : top + CROP, left : left + CROP]


def _as_tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


ATTACKS = (Attack("auto-encoder purification", "input", SOURCE, purify, needs_data=True, promised=True),)
