"""The threshold: exact, lowest, and as rare as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ptynet_plugin.errors import UsageError
from ptynet_plugin.symbols.codebook import code_words
from ptynet_plugin.symbols.threshold import (
    FALSE_FIRE_BOUND,
    MARGIN,
    choose_tau,
    decisive_tau,
    false_fire_bound,
)


@pytest.mark.parametrize(("tau", "bits", "symbols"), [(0.7, 94, 512), (0.5, 64, 512), (0.761, 71, 4096), (0.3, 20, 4)])
def test_bound_agrees_with_the_binomial_tail(tau: float, bits: int, symbols: int) -> None:
    needed = int(np.ceil(bits * (1 + tau) / 2))
    expected = min(1.0, symbols * stats.binom.sf(needed - 1, bits, 0.5))
    assert false_fire_bound(tau, bits=bits, symbols=symbols) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bits", [64, 71, 94])
@pytest.mark.parametrize("symbols", [2, 512, 4096])
def test_tau_is_the_lowest_within_the_bound(bits: int, symbols: int) -> None:
    tau = choose_tau(bits=bits, symbols=symbols)
    assert false_fire_bound(tau, bits=bits, symbols=symbols) <= FALSE_FIRE_BOUND
    assert false_fire_bound(tau - 2 / bits, bits=bits, symbols=symbols) > FALSE_FIRE_BOUND


def test_known_values() -> None:
    assert choose_tau(bits=94, symbols=512) == 0.671
    assert choose_tau(bits=64, symbols=512) == 0.797


def test_too_short_words_are_refused() -> None:
    with pytest.raises(UsageError, match="use more bits"):
        choose_tau(bits=30, symbols=512)


def test_random_bits_fire_as_often_as_the_bound_allows() -> None:
    bits, symbols, tau = 40, 64, 0.44
    rng = np.random.default_rng(3)
    words = code_words(bytes(32), symbols=symbols, bits=bits).astype(np.float32)
    read = rng.choice([-1.0, 1.0], (20_000, bits)).astype(np.float32)
    rate = float(((read @ words.T).max(axis=1) > tau * bits).mean())
    bound = false_fire_bound(tau, bits=bits, symbols=symbols)
    assert 0.5 * bound < rate <= 1.1 * bound  # the union bound is nearly tight for words kept apart


@pytest.mark.parametrize("bits", [71, 94])
def test_the_lead_is_certain_above_the_default_threshold(bits: int) -> None:
    words = code_words(bytes(32), symbols=512, bits=bits)
    tau = decisive_tau(words)
    assert choose_tau(bits=bits, symbols=512) <= tau <= choose_tau(bits=bits, symbols=512) + 0.05
    rng = np.random.default_rng(0)
    book = words.astype(np.float64)
    for _ in range(300):  # between two words is where the lead is smallest
        one, other = rng.choice(512, 2, replace=False)
        mixed = np.where(rng.random(bits) < rng.random(), book[one], book[other]) * rng.choice([1, 0.9], bits)
        best = np.sort(book @ mixed / bits)[::-1]
        assert best[0] <= tau or best[0] - best[1] >= MARGIN


def test_thresholds_are_not_raised_far() -> None:
    words = code_words(bytes(32), symbols=4096, bits=94)
    assert decisive_tau(words) == choose_tau(bits=94, symbols=4096)
