"""Noise is of the stated level and clipping of the stated bound; the guarantees are those of the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest, norm

from ptynet_plugin.privacy.likeness import psnr, ssim
from ptynet_plugin.privacy.release import STEP, epsilon, gaussian_mu, octets_needed, released, restored


def octets(count: int) -> bytes:
    return np.random.default_rng(5).bytes(octets_needed(count))


def test_noise_is_gaussian_of_the_stated_level() -> None:
    zeros = np.zeros((40, 27, 7, 7), np.float32)
    noisy = restored(released(zeros, noise=0.7, octets=octets(zeros.size)).steps)
    assert kstest(noisy.ravel() / 0.7, norm.cdf).pvalue > 1e-3
    assert noisy.std() == pytest.approx(0.7, rel=0.01)


def test_without_noise_activations_arrive_to_half_a_step() -> None:
    made = np.random.default_rng(6).normal(0, 0.3, (10, 27, 7, 7)).astype(np.float32)
    assert np.abs(restored(released(made, noise=0, octets=octets(made.size)).steps) - made).max() <= STEP / 2 + 1e-6


def test_a_loud_picture_is_clipped_to_the_norm_and_a_quiet_one_left() -> None:
    made = np.ones((2, 27, 7, 7), np.float32) * np.array([3, 0.01], np.float32)[:, None, None, None]
    found = restored(released(made, noise=0, octets=octets(made.size), clip=32).steps)
    assert np.linalg.norm(found[0]) == pytest.approx(32, rel=1e-3)
    assert found[1] == pytest.approx(made[1], abs=STEP)


def test_huge_noise_saturates_and_stays_finite() -> None:
    zeros = np.zeros((2, 27, 7, 7), np.float32)
    assert np.isfinite(restored(released(zeros, noise=1e9, octets=octets(zeros.size)).steps)).all()


@pytest.mark.parametrize("noise", [-1.0, math.nan, math.inf])
def test_impossible_noise_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="noise must be a number of 0 or more"):
        released(np.zeros((1, 1, 1, 1), np.float32), noise=noise, octets=octets(1))


def test_reused_or_short_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers need 16 octets, got 8"):
        released(np.zeros((2, 1, 1, 1), np.float32), noise=1, octets=octets(1))


@pytest.mark.parametrize("mu", [0.5, 1.0, 3.0, 8.0])
def test_epsilon_meets_delta_as_the_best_test_of_two_gaussians_does(mu: float) -> None:
    eps = epsilon(mu, delta=1e-5)
    x = np.linspace(-12, 12 + mu, 400_001)
    excess = np.maximum(norm.pdf(x, mu) - math.exp(eps) * norm.pdf(x), 0)
    assert np.trapezoid(excess, x) == pytest.approx(1e-5, rel=1e-3)


def test_no_noise_is_no_protection() -> None:
    assert gaussian_mu(noise=0) == math.inf
    assert epsilon(math.inf, delta=1e-5) == math.inf
    assert gaussian_mu(noise=64, clip=32) == 1
    assert epsilon(1e-7, delta=1e-5) == 0


def test_likeness_of_known_pictures() -> None:
    half = np.full((2, 16, 16, 3), 0.5)
    other = half + np.array([0.1, 0])[:, None, None, None]
    assert psnr(half, other)[0] == pytest.approx(20)
    assert psnr(half, other)[1] == math.inf
    luminance = (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4)  # constant pictures differ in the first factor alone
    assert ssim(half, other) == pytest.approx([luminance, 1])


def test_ssim_is_the_definition_on_one_window() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.random((1, 7, 7, 1)), rng.random((1, 7, 7, 1))
    covariance = np.cov(x.ravel(), y.ravel())
    wanted = (2 * x.mean() * y.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
    wanted /= (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (covariance[0, 0] + covariance[1, 1] + 9e-4)
    assert ssim(x, y)[0] == pytest.approx(wanted)
