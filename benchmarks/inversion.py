"""An attacker who holds released activations and wants the pictures back: decoders trained on public pictures (torch).

First the best linear estimate for the stated noise, then a convolutional network that repairs it, as inversion attacks
on split networks do (He et al., "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019; Erdogan et al., UnSplit,
arXiv 2108.09033). The front is public and linear, which the attacker knows and uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from numpy.typing import NDArray
from torch import Tensor, nn

from ptynet_plugin.privacy.front import activations
from ptynet_plugin.privacy.likeness import psnr, ssim

__all__ = ["Likeness", "Recovered", "likeness", "matched", "recovered"]

WIDTH = 32
BATCH = 64
RATE = 2e-3

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Recovered:
    """Pictures as an attacker recovers them, 0..1, shape (n, height, width, channels)."""

    linear: Floats
    network: Floats


@dataclass(frozen=True)
class Likeness:
    """Means over pictures: PSNR in decibels, and SSIM."""

    psnr: float
    ssim: float


def recovered(taken: Floats, public: NDArray[np.uint8], *, noise: float, steps: int, seed: int) -> Recovered:
    """Recover pictures from activations.

    Args:
        taken: The released activations, shape (n, filters, places, places).
        public: Pictures the attacker trains on, uint8 (m, 32, 32, channels).
        noise: Standard deviation of the release, which is told with it.
        steps: Of the network's training.
        seed: Of everything random.
    """
    rng = np.random.default_rng(seed)
    known = activations(public, color="RGB" if public.shape[3] == 3 else "GRAY")
    seen = known + noise * rng.standard_normal(known.shape, np.float32)
    truth = public.astype(np.float32) / 255
    estimate = _Linear(seen, truth)
    first, again = estimate(taken), estimate(seen)
    repair = _trained(again, truth, steps=steps, seed=seed)
    with torch.no_grad():
        better = torch.cat([repair(part) for part in _planes(first).split(500)])
    return Recovered(first.clip(0, 1), better.permute(0, 2, 3, 1).numpy().clip(0, 1))


def likeness(originals: NDArray[np.uint8], made: Floats) -> Likeness:
    """Compare recovered pictures with the originals."""
    truth = originals.astype(np.float64) / 255
    return Likeness(float(psnr(truth, made).mean()), float(ssim(truth, made).mean()))


def matched(taken: Floats, candidates: NDArray[np.uint8]) -> float:
    """Give the share of activations whose picture is the nearest of all candidates, in the same order as `taken`."""
    known = activations(candidates, color="RGB" if candidates.shape[3] == 3 else "GRAY").reshape(len(candidates), -1)
    asked = taken.reshape(len(taken), -1)
    distances = (known**2).sum(axis=1) - 2 * asked @ known.T
    return float(np.mean(distances.argmin(axis=1) == np.arange(len(taken))))


class _Linear:
    """Least squares from activations to pixels, both around their means."""

    def __init__(self, seen: Floats, truth: Floats) -> None:
        flat, pixels = seen.reshape(len(seen), -1).astype(np.float64), truth.reshape(len(truth), -1).astype(np.float64)
        self._mean, self._centre, self._shape = flat.mean(axis=0), pixels.mean(axis=0), truth.shape[1:]
        flat, pixels = flat - self._mean, pixels - self._centre
        gram = flat.T @ flat + 1e-3 * len(flat) * np.eye(flat.shape[1])
        self._weights = np.linalg.solve(gram, flat.T @ pixels)

    def __call__(self, seen: Floats) -> Floats:
        flat = seen.reshape(len(seen), -1) - self._mean
        return (flat @ self._weights + self._centre).reshape(-1, *self._shape).astype(np.float32)


class _Repair(nn.Module):
    """Adds what a linear estimate misses."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, channels, 3, padding=1),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures + self.layers(pictures)


def _trained(estimates: Floats, truth: Floats, *, steps: int, seed: int) -> _Repair:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    repair, inputs, wanted = _Repair(truth.shape[3]), _planes(estimates), _planes(truth)
    optimiser = torch.optim.Adam(repair.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (BATCH,), generator=generator)
        loss = F.mse_loss(repair(inputs[rows]), wanted[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return repair.eval()


def _planes(pictures: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
