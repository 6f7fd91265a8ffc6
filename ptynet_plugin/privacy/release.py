"""What a data holder lets go of: activations of bounded size under noise of a stated level, once.

Releasing the same pictures r times under fresh noise is releasing them once under noise smaller by sqrt(r). So noise is drawn
once for a process, and whoever asks again gets the same numbers.

Clipping and Gaussian noise together are the Gaussian mechanism. Its guarantee for a whole picture is stated by `gaussian_mu`
and `epsilon`: at noise that training bears it is far too weak to lean on, which is why the inversion attack of
`benchmarks.split_training` is what counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri
from scipy.stats import norm

__all__ = ["CLIP", "STEP", "Release", "epsilon", "gaussian_mu", "octets_needed", "released", "restored"]

CLIP = 32.0
"""Largest Euclidean norm of one picture's activations; ordinary pictures have 10 to 35."""

STEP = 1 / 1024
"""Activations travel as 16-bit integers in these steps: no NaN, no infinity, nothing above 32 can be sent."""

OCTETS = 8


@dataclass(frozen=True)
class Release:
    """Noised activations and how they were made.

    Attributes:
        steps: int16, shape (pictures, filters, places, places), in units of `STEP`.
        noise: Standard deviation of the noise, in units of the range of a pixel.
        clip: Largest norm before the noise.
    """

    steps: NDArray[np.int16]
    noise: float
    clip: float


def octets_needed(numbers: int) -> int:
    """Give how many random octets the noise of so many numbers takes."""
    return OCTETS * numbers


def released(activations: NDArray[np.float32], *, noise: float, octets: bytes, clip: float = CLIP) -> Release:
    """Clip each picture's activations to a norm and add Gaussian noise.

    Args:
        activations: Shape (pictures, filters, places, places).
        noise: Standard deviation, 0 or more.
        octets: `octets_needed(activations.size)` of them, from a source nobody can predict; used once.
        clip: Largest norm.

    Raises:
        ValueError: A negative noise, or too few octets.
    """
    if not (noise >= 0 and math.isfinite(noise)):
        raise ValueError(f"noise must be a number of 0 or more, got {noise}")
    if len(octets) != octets_needed(activations.size):
        raise ValueError(f"{activations.size} numbers need {octets_needed(activations.size)} octets, got {len(octets)}")
    norms = np.linalg.norm(activations.reshape(len(activations), -1), axis=1)
    bounded = activations / np.maximum(1, norms / clip)[:, None, None, None]
    noisy = bounded + noise * _gaussian(octets).reshape(activations.shape)
    limits = np.iinfo(np.int16)
    return Release(np.clip(np.rint(noisy / STEP), limits.min, limits.max).astype(np.int16), noise, clip)


def restored(steps: NDArray[np.int16]) -> NDArray[np.float32]:
    """Give activations as numbers again."""
    return steps.astype(np.float32) * np.float32(STEP)


def gaussian_mu(*, noise: float, clip: float = CLIP) -> float:
    """Give mu of Gaussian differential privacy (Dong et al., JRSS B 84, 2022) for exchanging one whole picture.

    Telling two given pictures apart from a release is as hard as telling N(0, 1) from N(mu, 1): 1 is much protection, 6 is none.
    """
    return math.inf if noise == 0 else 2 * clip / noise


def epsilon(mu: float, *, delta: float) -> float:
    """Give the least epsilon of (epsilon, delta) differential privacy that mu implies (Balle and Wang, ICML 2018, theorem 8)."""
    if math.isinf(mu):
        return math.inf

    def excess(eps: float) -> float:
        return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps + log_ndtr(-mu / 2 - eps / mu)) - delta)

    if excess(0) <= 0:
        return 0.0
    return float(brentq(excess, 0, mu * mu + 40 * mu))


def _gaussian(octets: bytes) -> NDArray[np.float64]:
    """Standard normal numbers by the inverse of their distribution, from 53 bits each."""
    words = np.frombuffer(octets, "<u8") >> np.uint64(11)
    return np.asarray(ndtri((words.astype(np.float64) + 0.5) / 2.0**53), np.float64)
